//! Pulls that run by themselves, progress, and the end of the network threads.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boxlite_images::{PullPhase, PullProgressCallback, Status};

use super::super::support::{in_own_process, names_in, quick_store, wait_until, watchdog, watched};
use super::content::Content;
use super::server::{Answer, Ending};
use super::{Bench, impatient, is_resumable};

fn is_readable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut fds = libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(&fd), events: libc::POLLIN, revents: 0 };
    assert!(unsafe { libc::poll(&raw mut fds, 1, 0) } >= 0);
    fds.revents & libc::POLLIN != 0
}

#[test]
fn an_operation_ends_and_says_so_once() {
    let bench = Bench::new(|asked, before, answer| match before {
        0 if asked.path.contains("/blobs/") => answer.ending(Ending::SilentAt(1000)),
        _ => answer,
    });
    let operation = bench.storage.start_pull(&bench.reference(), &impatient(bench.options())).unwrap();
    assert!(!is_readable(operation.as_fd()));
    assert_eq!(operation.finish().unwrap_err().status(), Status::Busy);
    assert!(!operation.wait(Some(Duration::from_millis(1))).unwrap());
    assert!(operation.wait(None).unwrap());
    // The byte comes right after.
    wait_until("the operation is readable", || is_readable(operation.as_fd()));
    let progress = operation.tracker().unwrap().progress();
    assert_eq!((progress.phase, progress.layers, progress.layers_done), (PullPhase::Done, 3, 3));
    assert_eq!(progress.bytes_fetched, progress.bytes_to_fetch);
    assert!(progress.bytes_unpacked > 1_200_000 && progress.entries_unpacked == 9);
    let sum: u64 = (0..3).map(|i| operation.tracker().unwrap().layer(i).unwrap().bytes_stored).sum();
    assert_eq!(sum, progress.bytes_fetched);
    assert!(operation.tracker().unwrap().layer(3).is_none());
    bench.assert_pulled(&operation.finish().unwrap());
    assert_eq!(operation.finish().unwrap_err().status(), Status::State);
    assert!(is_readable(operation.as_fd()));
    // What there is to know before it begins is known at once.
    let error = bench.storage.start_pull("No Reference", &bench.options()).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    let mut options = bench.options();
    options.progress = Some(PullProgressCallback::new(|_| std::ops::ControlFlow::Continue(())));
    let error = bench.storage.start_pull(&bench.reference(), &options).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
}

#[test]
fn an_operation_is_cancelled_and_dropped() {
    let silent = || Bench::new(|_, _, answer| answer.ending(Ending::SilentAt(0)));
    let bench = silent();
    let mut options = bench.options();
    options.stall_timeout = None;
    let operation = bench.storage.start_pull(&bench.reference(), &options).unwrap();
    operation.cancel();
    assert!(operation.wait(Some(watchdog())).unwrap());
    assert_eq!(operation.finish().unwrap_err().status(), Status::Cancelled);
    // One that is dropped leaves nothing that runs.
    let operation = bench.storage.start_pull(&bench.reference(), &options).unwrap();
    watched("an operation is dropped", || drop(operation));
    bench.assert_nothing();
}

#[test]
fn progress_is_told_and_may_end_it() {
    let bench = Bench::new(|asked, before, answer| match before {
        0 if asked.path.contains("/blobs/") => answer.ending(Ending::SilentAt(1000)),
        _ => answer,
    });
    let told: Arc<AtomicU64> = Arc::default();
    let mut options = impatient(bench.options());
    options.progress_interval = Some(Duration::from_millis(1));
    let (counter, caller) = (told.clone(), std::thread::current().id());
    options.progress = Some(PullProgressCallback::new(move |tracker| {
        assert_eq!(std::thread::current().id(), caller);
        let progress = tracker.progress();
        assert!(
            progress.bytes_fetched <= progress.bytes_to_fetch
                && progress.layers == if progress.phase == PullPhase::Resolving { 0 } else { 3 }
        );
        counter.fetch_add(1, Ordering::Relaxed);
        std::ops::ControlFlow::Continue(())
    }));
    bench.assert_pulled(&bench.storage.pull(&bench.reference(), &options).unwrap());
    assert!(told.load(Ordering::Relaxed) > 2, "{told:?}");
    let bench = Bench::new(|_, _, answer| answer);
    options.registries = bench.options().registries;
    options.progress = Some(PullProgressCallback::new(|_| std::ops::ControlFlow::Break(())));
    let error = bench.storage.pull(&bench.reference(), &options).unwrap_err();
    assert_eq!(error.status(), Status::Callback);
    bench.assert_nothing();
}

/// What arrived before a pull was cancelled is not fetched again, by whoever comes next.
#[test]
fn what_arrived_is_gone_on_with() {
    let bench = Bench::new(|asked, before, answer| match before {
        0 if asked.path.contains("/blobs/") && answer.body.len() > 1000 => answer.ending(Ending::SilentAt(100_000)),
        _ => answer,
    });
    let mut options = bench.options();
    options.stall_timeout = None;
    let operation = bench.storage.start_pull(&bench.reference(), &options).unwrap();
    let has_arrived = || {
        let layer = |i| operation.tracker().unwrap().layer(i).map_or(0, |layer| layer.bytes_stored);
        (0..3).all(|i| layer(i) == 100_000)
    };
    wait_until("100,000 bytes of each layer are there", has_arrived);
    operation.cancel();
    assert!(operation.wait(None).unwrap());
    assert_eq!(operation.finish().unwrap_err().status(), Status::Cancelled);
    drop(operation);
    bench.assert_nothing();
    let kept = names_in(&bench.dir.path().join("layers"));
    assert_eq!(kept.iter().filter(|name| is_resumable(&format!("layers/{name}"))).count(), 3, "{kept:?}");
    // Also in another process: a store that is opened anew keeps them.
    let storage = quick_store(bench.dir.path());
    let image = storage.pull(&bench.reference(), &bench.options()).unwrap();
    bench.assert_pulled(&image);
    let ranges: Vec<usize> = bench
        .server
        .asked()
        .iter()
        .filter(|asked| asked.path.contains("/blobs/"))
        .map(super::server::Asked::range_start)
        .filter(|&start| start > 0)
        .collect();
    assert_eq!(ranges, [100_000; 3]);
}

/// Bytes on the disk that are not what was fetched: found at the end, and the layer begun again.
#[test]
fn what_was_kept_and_is_damaged_is_fetched_again() {
    for damage in ["other bytes", "too many", "a directory", "a symlink"] {
        let bench = Bench::honest();
        let layer = &bench.content.layers[0];
        let hex = layer.hex();
        let kept = bench.dir.path().join(format!("layers/sha256-{hex}.{}.downloading", &hex[..32]));
        match damage {
            "other bytes" => std::fs::write(&kept, vec![7; 5000]).unwrap(),
            "too many" => std::fs::write(&kept, vec![7; 5_000_000]).unwrap(),
            "a directory" => std::fs::create_dir(&kept).unwrap(),
            _ => std::os::unix::fs::symlink("/etc/passwd", &kept).unwrap(),
        }
        let image = bench.pull().unwrap_or_else(|error| panic!("{damage}: {error}"));
        bench.assert_pulled(&image);
        assert!(!kept.exists());
    }
    assert!(std::fs::read_to_string("/etc/passwd").unwrap().contains("root"));
}

/// One that nobody goes on with goes, by a collection and with the years.
#[test]
fn what_was_kept_is_reclaimed() {
    let bench = Bench::honest();
    let hex = bench.content.layers[0].hex();
    let name = format!("layers/sha256-{hex}.{}.downloading", &hex[..32]);
    let kept = bench.dir.path().join(&name);
    std::fs::write(&kept, "abc").unwrap();
    // As a download that was killed leaves it: with the room that it had reserved.
    let reserved = 1 << 20;
    let file = std::fs::File::options().write(true).open(&kept).unwrap();
    #[cfg(target_os = "linux")]
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, reserved).unwrap();
    #[cfg(not(target_os = "linux"))]
    std::io::Write::write_all(&mut &file, &vec![0; reserved as usize]).unwrap();
    let age = |hours: u64| {
        let time = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        std::fs::File::options().write(true).open(&kept).unwrap().set_modified(time).unwrap();
    };
    age(2);
    let usage = bench.storage.disk_usage().unwrap();
    assert_eq!(usage.partials.objects, 1);
    assert!(usage.partials.bytes >= reserved, "{usage:?}");
    let open = || quick_store(bench.dir.path());
    drop(open());
    assert!(kept.exists(), "an open keeps it");
    let mut options = boxlite_images::GcOptions::default();
    options.dry_run = true;
    assert_eq!(bench.storage.collect(&options).unwrap().removed, [name.as_str()]);
    assert!(kept.exists());
    options.dry_run = false;
    let report = bench.storage.collect(&options).unwrap();
    assert_eq!(report.removed, [name.as_str()]);
    assert!(report.bytes >= reserved, "{report:?}");
    assert!(!kept.exists());
    std::fs::write(&kept, "abc").unwrap();
    age(25);
    drop(open());
    assert!(!kept.exists());
}

/// Threads of ours, by their names, when they are done with what they do.
fn threads_at_rest() -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..200 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        let mut now: Vec<String> = names.filter(|name| name.starts_with("bl-")).collect();
        now.sort();
        // Those that end are given the time.
        if now == found && !now.iter().any(|name| name.starts_with("bl-pull") || name.starts_with("bl-remove")) {
            return now;
        }
        found = now;
        std::thread::sleep(Duration::from_millis(100));
    }
    found
}

/// What the README says of threads.
#[test]
fn the_threads_are_as_many_as_the_readme_says() {
    in_own_process("pull::operations::the_threads_are_as_many_as_the_readme_says", || {
        let fact = |name| super::super::readme::fact(name).parse::<usize>().unwrap();
        let bench = Bench::honest();
        // As by default: what is there is to be flushed.
        let storage =
            boxlite_images::Storage::open(bench.dir.path().join("other"), &boxlite_images::StorageOptions::default())
                .unwrap();
        assert_eq!(
            threads_at_rest().len(),
            fact("threads of ours, with one store open, before the first extraction or pull")
        );
        storage.pull(&bench.reference(), &bench.options()).unwrap();
        let threads = threads_at_rest();
        assert_eq!(threads.len(), fact("after it, between calls"), "{threads:?}");
        boxlite_images::shutdown(watchdog()).unwrap();
        drop(storage);
        assert_eq!(threads_at_rest().len(), fact("after `bl_shutdown()` and `bl_storage_close()`"));
    });
}

/// Ends what runs; the next pull starts anew. In a process of its own, since it is for all of it.
#[test]
fn the_network_ends_and_begins_again() {
    in_own_process("pull::operations::the_network_ends_and_begins_again", shut_down);
}

fn shut_down() {
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("bl-net")).count()
    };
    boxlite_images::shutdown(Duration::ZERO).unwrap();
    for _ in 0..2 {
        assert_eq!(threads(), 0);
        let bench = Bench::honest();
        bench.assert_pulled(&bench.pull().unwrap());
        assert!(threads() > 0);
        boxlite_images::shutdown(watchdog()).unwrap();
    }
    let content = Content::new();
    let bench = Bench::new(move |asked, _, _| {
        if asked.path.contains("/blobs/") {
            content.answer(asked).ending(Ending::SilentAt(10))
        } else {
            content.answer(asked)
        }
    });
    let mut options = bench.options();
    options.stall_timeout = None;
    let operation = bench.storage.start_pull(&bench.reference(), &options).unwrap();
    boxlite_images::shutdown(watchdog()).unwrap();
    assert!(operation.wait(Some(watchdog())).unwrap());
    assert_eq!(operation.finish().unwrap_err().status(), Status::Cancelled);
    assert_eq!(threads(), 0);
    // Waiting may be too short, and the next pull works all the same.
    let bench = Bench::new(|_, _, _| Answer::new(200, "x"));
    assert!(bench.pull().is_err());
}
