//! Layers built byte by byte, also those that no tar library would write.

use std::io::Write as _;

/// A tar archive in the making.
#[derive(Clone, Default)]
pub struct Archive(Vec<u8>);

/// One header block, with every field to be set as wanted.
#[derive(Clone)]
pub struct Header {
    block: [u8; 512],
    keep_checksum: bool,
}

impl Header {
    /// A ustar header of mode 0644, owned by root, from second 1,700,000,000.
    pub fn new(typeflag: u8, name: &[u8]) -> Header {
        let header = Header { block: [0; 512], keep_checksum: false };
        let header = header.raw(0, &name[..name.len().min(100)]).raw(156, &[typeflag]).raw(257, b"ustar\x0000");
        header
            .number(100, 8, 0o644)
            .number(108, 8, 0)
            .number(116, 8, 0)
            .number(136, 12, 1_700_000_000)
            .number(124, 12, 0)
            .number(329, 8, 0)
            .number(337, 8, 0)
    }

    /// An octal field of this width at this offset.
    pub fn number(self, offset: usize, width: usize, value: u64) -> Header {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        self.raw(offset, text.as_bytes())
    }

    pub fn raw(mut self, offset: usize, bytes: &[u8]) -> Header {
        self.block[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.keep_checksum |= offset == 148;
        self
    }

    pub fn typeflag(&self) -> u8 {
        self.block[156]
    }

    pub fn gnu(self) -> Header {
        self.raw(257, b"ustar  \0")
    }

    pub fn mode(self, mode: u64) -> Header {
        self.number(100, 8, mode)
    }

    pub fn owner(self, uid: u64, gid: u64) -> Header {
        self.number(108, 8, uid).number(116, 8, gid)
    }

    pub fn link(self, target: &[u8]) -> Header {
        self.raw(157, target)
    }

    pub fn device(self, major: u64, minor: u64) -> Header {
        self.number(329, 8, major).number(337, 8, minor)
    }

    fn finished(mut self) -> [u8; 512] {
        if !self.keep_checksum {
            self.block[148..156].fill(b' ');
            let sum: u32 = self.block.iter().map(|&b| u32::from(b)).sum();
            self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        self.block
    }
}

impl Archive {
    pub fn new() -> Archive {
        Archive::default()
    }

    /// A header and its data, with the size field set to the data's length.
    pub fn entry(self, header: Header, data: &[u8]) -> Archive {
        let sized = header.number(124, 12, data.len() as u64);
        self.raw_entry(sized, data)
    }

    /// A header as it is, and data.
    pub fn raw_entry(mut self, header: Header, data: &[u8]) -> Archive {
        self.0.extend_from_slice(&header.finished());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn dir(self, name: &[u8]) -> Archive {
        self.entry(Header::new(b'5', name).mode(0o755), b"")
    }

    pub fn file(self, name: &[u8], data: &[u8]) -> Archive {
        self.entry(Header::new(b'0', name), data)
    }

    pub fn symlink(self, name: &[u8], target: &[u8]) -> Archive {
        self.entry(Header::new(b'2', name).link(target).mode(0o777), b"")
    }

    pub fn hardlink(self, name: &[u8], target: &[u8]) -> Archive {
        self.entry(Header::new(b'1', name).link(target), b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.entry(Header::new(b'x', b"pax"), &data)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Archive {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Without the blocks of zeros at the end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes(&[0; 1024]).0
    }
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}
