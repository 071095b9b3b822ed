//! Eight processes that do everything at once to one store, one operation in a hundred ending with
//! the death of its process. No read is ever wrong. What somebody holds is never collected. No
//! layer is unpacked twice while its tree is held, and nobody waits for long.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use boxlite_images::{CheckOptions, Digest, ExtractOptions, GcOptions, ImageName, Lease, Problem, Status, Storage};

use super::super::archive::Archive;
use super::super::images::put_image;
use super::super::support::{leftovers, put_layer, quick_store, temp_dir, watched};
use super::{Chance, findings, is_full};

const PROCESSES: usize = 8;
const TEST: &str = "faults::soak::many_processes_share_a_store";

#[test]
fn many_processes_share_a_store() {
    if let Some(store) = std::env::var_os("BL_SOAK_STORE") {
        return work(Path::new(&store));
    }
    let dir = temp_dir();
    let store = dir.path().join("store");
    std::fs::write(dir.path().join("log"), "").unwrap();
    std::fs::write(dir.path().join("shared"), "").unwrap();
    let storage = quick_store(&store);
    // On what all of them extract, and nobody may remove meanwhile; the oldest is given up, so that the store stays small.
    let mut leases = VecDeque::new();
    // As many operations as it takes ten minutes for beside other work, or ten minutes.
    let (time, most) =
        if is_full() { (Duration::from_secs(600), 10_000) } else { (Duration::from_secs(15), usize::MAX) };
    let count = |word: &str| {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        log.lines().filter(|line| line.starts_with(word)).count()
    };
    let (started, mut deaths, mut born, mut shared) = (Instant::now(), 0, 0, 0);
    let mut workers: Vec<Child> = Vec::new();
    while started.elapsed() < time && (shared % 50 > 0 || count("done") < most) {
        while workers.len() < PROCESSES {
            born += 1;
            workers.push(spawn(&store, born));
        }
        if shared % 50 == 0 {
            leases.push_back(storage.create_lease(Duration::from_secs(3600)).unwrap());
            if leases.len() > 4 {
                leases.pop_front().unwrap().release().unwrap();
            }
        }
        shared += 1;
        share(&storage, leases.back().unwrap(), dir.path(), shared);
        std::thread::sleep(Duration::from_millis(100));
        workers.retain_mut(|worker| match worker.try_wait().unwrap() {
            None => true,
            Some(status) => {
                assert_killed(status);
                deaths += 1;
                false
            }
        });
    }
    std::fs::write(dir.path().join("stop"), "").unwrap();
    for mut worker in workers {
        let status = worker.wait().unwrap();
        if !status.success() {
            assert_killed(status);
            deaths += 1;
        }
    }

    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let mut extractions = std::collections::BTreeMap::new();
    for digest in log.lines().filter_map(|line| line.strip_prefix("shared ")) {
        *extractions.entry(digest).or_insert(0) += 1;
    }
    assert!(extractions.values().all(|&times| times == 1), "unpacked more than once: {extractions:?}");
    assert!(extractions.len() * 2 > shared, "{} of {shared} shared layers were unpacked", extractions.len());
    let operations = count("done");
    assert!(deaths > 0 && operations > 100, "{operations} operations, {deaths} deaths");
    assert_eq!(findings(&store).into_iter().filter(|f| f.problem == Problem::Damaged).collect::<Vec<_>>(), []);
    assert_eq!(leftovers(&store), [""; 0]);
    println!(
        "soak: {operations} operations of {born} processes in {} s, {deaths} killed, {} layers unpacked once each",
        started.elapsed().as_secs(),
        extractions.len()
    );
}

fn assert_killed(status: std::process::ExitStatus) {
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(9), "a worker failed: {status:?}");
}

fn spawn(store: &Path, seed: u64) -> Child {
    Command::new("/proc/self/exe")
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env("BL_SOAK_STORE", store)
        .env("BL_SOAK_SEED", seed.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A layer that nobody has seen before, held before it is there.
fn share(storage: &Storage, lease: &Lease, dir: &Path, number: usize) {
    let files = (0..50).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), &[b's'; 500]));
    let layer = files.file(b"number", number.to_string().as_bytes()).finish();
    lease.hold(&Digest::of(&layer)).unwrap();
    append(&dir.join("shared"), &put_layer(storage, &layer).to_string());
}

fn append(path: &Path, line: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// One of the eight.
fn work(store: &Path) {
    let dir = store.parent().unwrap();
    let seed: u64 = std::env::var("BL_SOAK_SEED").unwrap().parse().unwrap();
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut storage = quick_store(store);
    while !dir.join("stop").exists() {
        if chance.below(100) == 0 {
            let moment = Duration::from_micros(chance.below(5000) as u64);
            std::thread::spawn(move || {
                std::thread::sleep(moment);
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            });
        }
        let what = watched("an operation of many", || operation(&mut storage, dir, &mut chance));
        append(&dir.join("log"), &format!("done {what}"));
    }
}

fn operation(storage: &mut Storage, dir: &Path, chance: &mut Chance) -> &'static str {
    let number = chance.below(6);
    let name = ImageName::parse(&format!("example.org/image{number}:1")).unwrap();
    let files = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"], ["e", "f"], ["f", "a"]][number];
    let missing_is_fine = |status: Status| assert_eq!(status, Status::NotFound);
    match chance.below(10) {
        0 => {
            *storage = quick_store(storage.images_dir());
            "open"
        }
        1 => {
            put_image(storage, &number.to_string(), &files);
            "put"
        }
        2 => {
            // A collection may have come between the two.
            let digest = put_image(storage, &number.to_string(), &files);
            storage.tag_image(&name, &digest).unwrap_or_else(|error| missing_is_fine(error.status()));
            "tag"
        }
        3 => {
            storage.remove_image(&name).unwrap_or_else(|error| missing_is_fine(error.status()));
            "remove"
        }
        4 => {
            let mut options = GcOptions::default();
            options.min_age = Duration::ZERO;
            storage.collect(&options).unwrap();
            "collect"
        }
        5 => {
            let mut options = CheckOptions::default();
            options.repair = true;
            let report = storage.check(&options).unwrap();
            assert!(report.findings.iter().all(|f| f.problem != Problem::Damaged), "{:?}", report.findings);
            "check"
        }
        6 => hold_and_read(storage, &number.to_string(), &files),
        7 => {
            read(storage, &name);
            "read"
        }
        _ => {
            let shared = std::fs::read_to_string(dir.join("shared")).unwrap();
            for digest in shared.lines().rev().take(3).filter_map(|line| Digest::parse(line).ok()) {
                if !storage.extract_layer(&digest, &ExtractOptions::default()).unwrap().cached {
                    append(&dir.join("log"), &format!("shared {digest}"));
                }
                let tree = storage.layer_extracted_path(&digest);
                assert_eq!(std::fs::read(tree.join("f49")).unwrap(), [b's'; 500]);
                let mut as_disk = ExtractOptions::default();
                as_disk.tree.form.erofs = true;
                storage.extract_layer(&digest, &as_disk).unwrap();
                let disk = std::fs::metadata(storage.extracted_path(&digest, as_disk.tree.form)).unwrap();
                assert!(disk.len() > 50 * 4096, "{} bytes for 50 files", disk.len());
            }
            "extract"
        }
    }
}

/// What a lease holds is there, whole, as long as it holds.
fn hold_and_read(storage: &Storage, env: &str, files: &[&str]) -> &'static str {
    let lease = storage.create_lease(Duration::from_secs(600)).unwrap();
    let other = temp_dir();
    let digest = put_image(&quick_store(other.path()), env, files);
    lease.hold(&digest).unwrap();
    // Its layers are held from when its manifest is there, so they come again after it.
    put_image(storage, env, files);
    put_image(storage, env, files);
    let image = storage.open_image_by_digest(&digest).unwrap();
    assert_eq!(image.missing, []);
    for (layer, _) in image.layers() {
        storage.extract_layer(&layer.digest, &ExtractOptions::default()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        storage.verify_layer(&layer.digest, &Default::default()).unwrap();
        let tree = storage.layer_extracted_path(&layer.digest);
        for entry in std::fs::read_dir(&tree).unwrap() {
            assert_eq!(std::fs::read(entry.unwrap().path()).unwrap(), [b'x'; 1000]);
        }
    }
    lease.release().unwrap();
    "hold"
}

/// Whatever can be read is right; what cannot is not there.
fn read(storage: &Storage, name: &ImageName) {
    let image = match storage.open_image(name) {
        Ok(image) => image,
        Err(error) => return assert_eq!(error.status(), Status::NotFound, "{error}"),
    };
    for (layer, _) in image.layers() {
        if let Err(error) = storage.verify_layer(&layer.digest, &Default::default()) {
            assert_eq!(error.status(), Status::NotFound, "{error}");
        }
    }
}
