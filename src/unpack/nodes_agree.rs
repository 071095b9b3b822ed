//! Random layers, on the disk and in memory: the same records, the same oddities, the same errors, alone and on top of each
//! other. What the rules come to is not to depend on where nodes live.

use std::fs::File;
use std::io::Read as _;

use super::nodes::Nodes;
use super::*;
use crate::digest::Algorithm;
use crate::error::{Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Decompressor, LayerFile, Reader, Stream};
use crate::limits::LayerLimits;
use crate::record::{RECORD_HEAD_LEN, RecordFile, RecordWriter};

/// Numbers by a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }

    /// Few names, so that entries meet.
    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| self.of(&["a", "b", "c", "d", "e"])).collect::<Vec<_>>().join("/")
    }

    /// `kinds` up to 11 are files and directories, then come symlinks, a hard link, and what nobody opens.
    fn layer(&mut self, kinds: u64, entries: u64) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..1 + self.below(entries) {
            let mut path = self.path();
            if self.below(5) == 0 {
                let parent = path.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
                path = format!("{parent}{}", self.of(&[".wh.a", ".wh.b", ".wh.c", ".wh.d", ".wh..wh..opq"]));
            }
            let mut header = tar::Header::new_ustar();
            let mut content = Vec::new();
            let kind = if path.contains(".wh.") { 0 } else { self.below(kinds) };
            match kind {
                0..=5 => content = vec![b'x'; self.below(3) as usize * 300],
                6..=10 => header.set_entry_type(tar::EntryType::Directory),
                11 | 12 => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    let target = self.of(&["a", "../b", "/c", "b/a", "..", ".", "/", "d/../e", "./a/b", "e"]);
                    header.set_link_name_literal(target).unwrap();
                }
                13 => {
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_link_name_literal(self.path()).unwrap();
                }
                _ => {
                    header.set_entry_type(if self.below(2) == 0 { tar::EntryType::Fifo } else { tar::EntryType::Char });
                    header.set_device_major(self.below(2) as u32).unwrap();
                    header.set_device_minor(0).unwrap();
                }
            }
            header.set_path(&path).unwrap();
            header.set_size(content.len() as u64);
            header.set_mode([0o644, 0o755, 0o400][number as usize % 3]);
            header.set_mtime(number);
            header.set_cksum();
            builder.append(&header, &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }
}

fn reader(layer: &[u8]) -> Reader {
    let (limits, interrupt) = (LayerLimits::default(), Interrupt::default());
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, layer).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let file = LayerFile::new(file.into(), Algorithm::Sha256);
    let source = Decompressor::open(file, Algorithm::Sha256, interrupt.clone(), &limits).unwrap();
    Reader::new(Stream::new(source, Algorithm::Sha256, interrupt).unwrap(), limits)
}

/// What came of it: the lines of the record and what was odd, but for what only a disk can refuse; or the status.
type Outcome = Result<(String, Anomalies), Status>;

/// The record goes to a file, and to another one where lines have to be left out.
struct Records {
    folder: tempfile::TempDir,
}

impl Records {
    fn new() -> Records {
        Records { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> RecordFile {
        let path = self.folder.path().join(name);
        RecordFile::new(File::create(&path).unwrap().into(), path)
    }

    fn read(&self) -> String {
        let at = |name: &str| self.folder.path().join(name);
        let name = if at("second").exists() { "second" } else { "first" };
        let mut bytes = Vec::new();
        File::open(at(name)).unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes.split_off(RECORD_HEAD_LEN.min(bytes.len()))).unwrap()
    }
}

fn alone<N: Nodes>(layer: &[u8], make: impl FnOnce(RecordWriter) -> TreeWriter<N>) -> Outcome {
    let records = Records::new();
    let record = RecordWriter::new(Some(records.file("first")), LayerLimits::default());
    let mut writer = make(record);
    let done = writer.write(&mut reader(layer)).and_then(|()| writer.finish()).and_then(|(record, anomalies, _)| {
        record.finish(|_, _| [b'\n'; RECORD_HEAD_LEN], || Ok(records.file("second")), &Interrupt::default())?;
        Ok(anomalies)
    });
    outcome(done, &records)
}

fn stacked<N: Nodes>(layers: &[Vec<u8>], make: impl FnOnce(RecordWriter) -> TreeWriter<N>) -> Outcome {
    let records = Records::new();
    let record = RecordWriter::new(Some(records.file("first")), LayerLimits::default());
    let mut assembler = Assembler::of(make(record));
    let done = layers
        .iter()
        .try_for_each(|layer| assembler.archive(&mut reader(layer)))
        .and_then(|()| assembler.finish(|_, _| [b'\n'; RECORD_HEAD_LEN], || Ok(records.file("second"))))
        .map(|(_, anomalies)| anomalies);
    outcome(done, &records)
}

fn outcome(done: Result<Anomalies>, records: &Records) -> Outcome {
    match done {
        Ok(anomalies) => Ok((records.read(), anomalies.without(Anomalies::DEVICE_PLACEHOLDER))),
        Err(error) => Err(error.status()),
    }
}

fn on_disk<'a>(
    folder: &'a tempfile::TempDir,
    options: &TreeOptions,
    record: RecordWriter,
) -> TreeWriter<DiskNodes<'a>> {
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("root")).unwrap();
    std::fs::create_dir(at("aside")).unwrap();
    let trash = Aside::new(move || {
        Ok(AsideDir { handle: File::open(folder.path().join("aside")).unwrap().into(), _owner: Box::new(()) })
    });
    let root = File::open(at("root")).unwrap().into();
    TreeWriter::on_disk(root, trash, record, options, &Interrupt::default(), 0).unwrap()
}

fn in_memory<'a>(nothing: &'a mut NoContent, options: &TreeOptions, record: RecordWriter) -> TreeWriter<Arena<'a>> {
    TreeWriter::new(ROOT, Arena::new(nothing, options.form.is_overlay()), record, options, &Interrupt::default())
}

#[test]
fn a_layer_by_itself() {
    let mut options = TreeOptions::default();
    let (mut extracted, mut refused) = (0, 0);
    for seed in 1..600u64 {
        let layer = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).layer(16, 12);
        let is_root = rustix::process::geteuid().is_root();
        options.form.whiteouts = if is_root && seed % 2 == 0 { WhiteoutForm::Overlay } else { WhiteoutForm::Markers };
        let folder = tempfile::tempdir().unwrap();
        let disk = alone(&layer, |record| on_disk(&folder, &options, record));
        let mut nothing = NoContent;
        let memory = alone(&layer, |record| in_memory(&mut nothing, &options, record));
        assert_eq!(disk, memory, "seed {seed}");
        if disk.is_ok() { extracted += 1 } else { refused += 1 }
    }
    assert!(extracted > 200 && refused > 20, "{extracted} {refused}");
}

#[test]
fn layers_on_top_of_each_other() {
    let options = TreeOptions::default();
    let (mut assembled, mut refused) = (0, 0);
    for seed in 1..400u64 {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let layers: Vec<Vec<u8>> = (0..2 + seed % 2).map(|_| random.layer(11 + seed % 6, 4)).collect();
        let folder = tempfile::tempdir().unwrap();
        let disk = stacked(&layers, |record| on_disk(&folder, &options, record));
        let mut nothing = NoContent;
        let memory = stacked(&layers, |record| in_memory(&mut nothing, &options, record));
        assert_eq!(disk, memory, "seed {seed}");
        if disk.is_ok() { assembled += 1 } else { refused += 1 }
    }
    assert!(assembled > 50 && refused > 50, "{assembled} {refused}");
}
