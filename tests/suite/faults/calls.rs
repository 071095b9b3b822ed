//! Which system calls an operation makes, and how strace is told to interfere with one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::operations::{Operation, Tool};

/// Calls that change something, or decide who may.
const CALLS: &str = "openat,mkdir,mkdirat,write,pwrite64,renameat,renameat2,unlinkat,linkat,symlinkat,mknodat,chmod,\
     fchmod,fchmodat,fchown,fchownat,utimensat,ftruncate,fallocate,fsync,fdatasync,syncfs,flock,fsetxattr,lsetxattr,\
     fremovexattr";

/// The n-th time, counted from one, that a thread makes a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub call: String,
    pub nth: usize,
}

/// Where an operation changes the store, as a run of it shows.
pub fn sites(tool: &Tool, operation: &Operation) -> Vec<Site> {
    let store = tool.prepare(operation);
    let log = store.with_extension("strace");
    let trace = format!("trace={CALLS}");
    let output = tool.run(operation, &store, &["-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace]);
    assert!(output.status.success(), "{}: {output:?}", operation.name);
    let sites = sites_in(&std::fs::read_to_string(&log).unwrap(), &store);
    assert!(!sites.is_empty(), "{}: no system calls seen", operation.name);
    sites
}

fn sites_in(log: &str, store: &Path) -> Vec<Site> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut sites = BTreeSet::new();
    let mut has_begun = false;
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        // The second half of a call that was shown in two, or one that strace does not know and shows all the same.
        if !CALLS.split(',').any(|known| known == call) {
            continue;
        }
        let nth = counts.entry((thread, call)).or_default();
        *nth += 1;
        // Before that it is the loader's.
        has_begun |= arguments.contains(store.to_str().unwrap());
        let changes = match call {
            "openat" => arguments.contains("O_CREAT"),
            // To whoever started it.
            "write" => !arguments.starts_with("1,") && !arguments.starts_with("2,"),
            _ => true,
        };
        if has_begun && changes {
            sites.insert(Site { call: call.to_owned(), nth: *nth });
        }
    }
    sites.into_iter().collect()
}
