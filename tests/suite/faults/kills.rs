//! Killed at every changing system call of every operation. Whatever that leaves, the store opens, what is visible is
//! whole, and the same operation succeeds.

use std::os::unix::process::ExitStatusExt as _;

use boxlite_images::{Storage, StorageOptions};

use super::calls::sites;
use super::operations::Tool;
use super::{findings, some_of};

#[test]
fn a_kill_at_any_system_call_harms_nothing() {
    let Some(tool) = Tool::new() else { return };
    let (mut kills, mut calls) = (0, 0);
    for operation in tool.operations() {
        let all = sites(&tool, &operation);
        calls += all.len();
        let mut kills_of_this = 0;
        for site in some_of(all, 12) {
            let store = tool.prepare(&operation);
            let inject = format!("inject={}:signal=SIGKILL:when={}", site.call, site.nth);
            let output = tool.run(&operation, &store, &["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
            let context = format!("{}: killed at {site:?}", operation.name);
            if output.status.signal() == Some(9) || output.status.code() == Some(137) {
                kills_of_this += 1;
            } else {
                // Threads take turns: it may have made fewer calls of the kind this time.
                assert!(output.status.success(), "{context}: {output:?}");
            }
            let found = findings(&store);
            assert!(found.is_empty() || operation.is_damaged, "{context}: {found:?}");
            let again = tool.run(&operation, &store, &[]);
            assert!(again.status.success() || operation.name == "remove", "{context}: {again:?}");
            assert_eq!(findings(&store), [], "{context}, and again");
            (operation.holds)(&Storage::open(&store, &StorageOptions::default()).unwrap());
        }
        assert!(kills_of_this > 0, "{} was never killed", operation.name);
        kills += kills_of_this;
    }
    println!("kills: {kills} processes killed at one of {calls} system calls, all invariants held");
}
