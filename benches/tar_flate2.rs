//! The loop that most Rust programs have: the `tar` crate over the `flate2` crate, without verification. A contestant of
//! `benches/extract.py`.

use std::fs::File;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(blob), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err(std::io::Error::other("usage: tar-flate2 BLOB DIR"));
    };
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(File::open(blob)?));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    archive.unpack(to)
}
