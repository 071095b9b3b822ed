//! What comes out: configs, digests, squashed layers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use boxlite_images::{
    CommitOptions, CommitSource, ConfigChanges, ImageName, LayerCompression, ProgressCallback, RootfsMode,
    RootfsOptions, Status,
};

use super::super::archive::Archive;
use super::super::images::{put_image_of, put_image_with};
use super::super::loop_disk::LoopDisk;
use super::super::support::{digest_of, in_own_process, is_root, quick_store, temp_dir, temp_dir_in_memory};
use super::super::tree::{differences, snapshot};
use super::{base, commit, comparable, plain_upper};

#[test]
fn a_config_grows_and_changes() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let mut changes = ConfigChanges::default();
    changes.entrypoint = Some(vec!["/init".into()]);
    changes.cmd = Some(Vec::new());
    changes.env = vec!["HOME=/home".into(), "NEW=1".into()];
    changes.unset_env = vec!["PATH".into()];
    changes.labels = [("c".to_owned(), "d".to_owned())].into();
    changes.unset_labels = vec!["a".into()];
    changes.exposed_ports = vec!["80/tcp".into()];
    changes.user = Some("7:8".into());
    let name = ImageName::parse("example.org/new:1").unwrap();
    let options = CommitOptions::default().epoch(1_000_000_000).changes(changes).author("me").message("why");
    let committed = commit(&storage, &base, &plain_upper(dir.path()), &options.name(name.clone()));
    let config = &committed.image.config;
    assert_eq!(config.env, ["HOME=/home", "NEW=1"]);
    assert_eq!((&config.entrypoint[..], &config.cmd[..]), (&["/init".to_owned()][..], &[][..]));
    assert_eq!(config.labels, [("c".to_owned(), "d".to_owned())].into());
    assert_eq!((&config.exposed_ports[..], &config.user[..]), (&["80/tcp".to_owned()][..], "7:8"));
    assert_eq!(config.created, "2001-09-09T01:46:40Z");
    assert_eq!(config.diff_ids[..2], base.config.diff_ids[..]);
    let raw: serde_json::Value = serde_json::from_slice(&committed.image.config_bytes).unwrap();
    let last = raw["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["author"], &last["comment"]), (&"me".into(), &"why".into()));
    assert_eq!(storage.open_image(&name).unwrap().manifest_digest, committed.image.manifest_digest);
    // Without a base it is the first layer.
    let source = CommitSource::Upper(dir.path().join("upper"));
    let first = storage.commit_image(None, &source, &CommitOptions::default()).unwrap();
    assert_eq!((first.image.manifest.layers.len(), first.image.config.diff_ids.len()), (1, 1));
    assert_eq!(first.image.config.os, "linux");
}

/// The same changes are the same layer, wherever they lie, and with an epoch the same image.
#[test]
fn the_same_changes_are_the_same_image_on_every_file_system() {
    let dirs = [temp_dir(), temp_dir_in_memory()];
    let xfs = LoopDisk::new("mkfs.xfs", &["-q"], 400);
    let mut places: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_path_buf()).collect();
    places.extend(xfs.as_ref().map(LoopDisk::path));
    let store_dir = temp_dir();
    for compression in [LayerCompression::Zstd, LayerCompression::Gzip, LayerCompression::Plain] {
        let mut found = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let upper = place.join("upper");
            if !upper.exists() {
                plain_upper(place);
                std::fs::File::create(upper.join("sparse")).unwrap().set_len(5 << 20).unwrap();
                std::fs::write(upper.join("zeros"), vec![0; 5 << 20]).unwrap();
            }
            let storage = quick_store(&store_dir.path().join(format!("{compression:?}-{number}")));
            let options = CommitOptions::default().epoch(1_000_000_000).compression(compression);
            let committed = commit(&storage, &base(&storage), &upper, &options);
            found.push((committed.layer, committed.image.manifest_digest));
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{compression:?}: {found:?}");
    }
}

/// What layers come to stays, whichever of them become one.
#[test]
fn squashed_layers_come_to_the_same() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let mut stacks: Vec<Vec<Vec<u8>>> = super::super::families::assembly::layers_of_all();
    stacks.push(
        (0..127u32)
            .map(|n| {
                let archive = Archive::new()
                    .file(format!("f{n}").as_bytes(), n.to_string().as_bytes())
                    .file(b"same", n.to_string().as_bytes());
                let archive =
                    if n % 3 == 2 { archive.file(format!(".wh.f{}", n - 1).as_bytes(), b"") } else { archive };
                if n % 5 == 4 {
                    archive.hardlink(format!("l{n}").as_bytes(), format!("f{}", n - 2).as_bytes())
                } else {
                    archive
                }
                .finish()
            })
            .collect(),
    );
    let (mut squashed, mut refused) = (0, 0);
    for (number, layers) in stacks.into_iter().enumerate() {
        let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
        let expected = dir.path().join(format!("{number}"));
        let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
        options.tree.form.device_nodes = is_root();
        if storage.assemble_rootfs(&image, &expected, &options).is_err() {
            refused += 1;
            continue;
        }
        let mut froms = vec![0];
        froms.extend((layers.len() > 1).then_some(layers.len() / 2));
        for from in froms.into_iter().filter(|from| *from < layers.len()) {
            let made = match storage.squash_image(&image, from, &CommitOptions::default()) {
                Err(error) if error.to_string().contains("a device 0:0") => continue,
                made => made.unwrap(),
            };
            assert_eq!(made.image.manifest.layers.len(), from + 1);
            let at = dir.path().join(format!("{number}-{from}"));
            storage.assemble_rootfs(&made.image, &at, &options).unwrap();
            let differences = differences(&comparable(snapshot(&expected)), &comparable(snapshot(&at)));
            assert!(differences.is_empty(), "stack {number} from {from}: {differences:#?}");
            squashed += 1;
        }
    }
    eprintln!("{squashed} squashed, {refused} stacks refused");
    assert!(squashed > 50 && refused < 20, "{squashed} {refused}");
}

/// What nobody would extract again is not made.
#[test]
fn a_layer_that_would_be_a_bomb_is_refused() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let upper = dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("same"), vec![b'x'; 100 << 20]).unwrap();
    let source = CommitSource::Upper(upper);
    let error = storage.commit_image(Some(&base), &source, &CommitOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::Limit, "{error}");
    assert!(error.to_string().contains("compression ratio"), "{error}");
    let options = CommitOptions::default().compression(LayerCompression::Plain);
    let committed = storage.commit_image(Some(&base), &source, &options).unwrap();
    storage.extract_layer(committed.layer.as_ref().unwrap(), &Default::default()).unwrap();
    let mut options = CommitOptions::default();
    options.limits.compression_ratio = 100_000;
    storage.commit_image(Some(&base), &source, &options).unwrap();
}

/// Go's readers, and this library, take a config's keys in either case. What is changed is changed there.
#[test]
fn a_config_with_odd_keys_grows_too() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layer = Archive::new().file(b"f", b"f").finish();
    let config = |history: &str| {
        let diff_id = digest_of(&layer);
        format!(
            r#"{{"Created":"2020-01-01T00:00:00Z","Architecture":"amd64","OS":"linux","Config":{{"cmd":["old"],"env":["A=b"]}},
            "RootFS":{{"type":"layers","DiffIDs":["{diff_id}"]}},"History":{history}}}"#
        )
    };
    let (upper, name) = (plain_upper(dir.path()), ImageName::parse("example.org/new:1").unwrap());
    let source = CommitSource::Upper(upper);
    let mut changes = ConfigChanges::default();
    changes.cmd = Some(vec!["new".into()]);
    changes.env = vec!["A=c".into()];
    let options = CommitOptions::default().changes(changes).name(name.clone());
    let image = |history: &str| {
        storage.open_image_by_digest(&put_image_with(&storage, &config(history), std::slice::from_ref(&layer))).unwrap()
    };
    let good = image(r#"[{"created_by":"x"}]"#);
    let committed = storage.commit_image(Some(&good), &source, &options).unwrap();
    let config = &committed.image.config;
    assert_eq!((&config.cmd[..], &config.env[..]), (&["new".to_owned()][..], &["A=c".to_owned()][..]));
    assert_eq!(config.diff_ids.len(), 2);
    assert_eq!(storage.open_image(&name).unwrap().config, *config);
    storage.remove_image(&name).unwrap();
    for history in [r#"["x"]"#, r#"{}"#, "7"] {
        let bad = image(history);
        for error in [
            storage.commit_image(Some(&bad), &source, &options).unwrap_err(),
            storage.squash_image(&bad, 0, &options).unwrap_err(),
            storage.edit_image(&bad, &options).unwrap_err(),
        ] {
            assert_eq!(error.status(), Status::Malformed, "{history}: {error}");
        }
        assert_eq!(storage.image(&name).unwrap_err().status(), Status::NotFound);
    }
}

/// The host's signal handlers run on the host's threads, and not on those of zstd either.
#[test]
#[cfg(target_os = "linux")]
fn threads_of_a_commit_block_all_signals() {
    in_own_process("commits::images::threads_of_a_commit_block_all_signals", || {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let upper = dir.path().join("upper");
        std::fs::create_dir(&upper).unwrap();
        std::fs::write(upper.join("large"), vec![b'x'; 8 << 20]).unwrap();
        let threads = || -> BTreeSet<String> {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
        };
        let before = threads();
        for compression in [LayerCompression::Zstd, LayerCompression::Gzip] {
            let seen = Arc::new(Mutex::new(BTreeMap::new()));
            let (seen_there, before) = (seen.clone(), before.clone());
            let look = move |_: &_| {
                for task in threads().difference(&before) {
                    // One that has ended meanwhile says nothing.
                    let status = std::fs::read_to_string(format!("/proc/self/task/{task}/status")).unwrap_or_default();
                    let Some(mask) = status.lines().find_map(|line| line.strip_prefix("SigBlk:")) else { continue };
                    seen_there.lock().unwrap().insert(task.clone(), u64::from_str_radix(mask.trim(), 16).unwrap());
                }
                ControlFlow::Continue(())
            };
            let options = CommitOptions::default().compression(compression).progress(ProgressCallback::new(look));
            storage.commit_image(None, &CommitSource::Upper(upper.clone()), &options).unwrap();
            let seen = seen.lock().unwrap();
            // zstd has one also where there is one processor.
            let has_threads = compression == LayerCompression::Zstd || available_parallelism().unwrap().get() > 1;
            assert!(!seen.is_empty() || !has_threads, "{compression:?}: no thread was seen");
            // 1 to 31, but for SIGKILL and SIGSTOP.
            let all = 0x7fff_ffff & !(1 << 8) & !(1 << 18);
            assert!(seen.values().all(|mask| mask & all == all), "{compression:?}: {seen:x?}");
        }
    });
}
