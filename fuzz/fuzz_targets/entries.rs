//! Any bytes as a layer's file: they are entries or a typed error, and the same bytes are the same again, also as nodes in
//! memory.

#![no_main]

use boxlite_images::{LayerLimits, TreeOptions, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut limits = LayerLimits::default();
    // So that a bomb of a few bytes does not take the time of a thousand other inputs.
    limits.layer_bytes = 16 << 20;
    let file = || {
        let file = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, data).unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        file
    };
    let read = || fuzzing::read_entries(file(), &limits);
    let (first, second) = (read(), read());
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            let mut options = TreeOptions::default();
            options.limits = limits.clone();
            let record =
                || fuzzing::record_of_nodes_in_memory(vec![file()], &options, true).map_err(|error| error.status());
            assert_eq!(record(), record());
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            assert_ne!(first.status(), boxlite_images::Status::Internal, "{first}");
            assert!(!first.message().contains(['\n', '\x1b']), "{first:?}");
        }
        (first, second) => panic!("{first:?} and then {second:?}"),
    }
});
