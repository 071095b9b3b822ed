//! Every changing system call of every operation fails once, with each error that a system gives. The operation succeeds
//! or says so with a status; nothing is left over, what is visible is whole, and the same operation succeeds afterwards.

use boxlite_images::{Storage, StorageOptions};

use super::calls::sites;
use super::operations::Tool;
use super::{findings, some_of};

const ERRORS: [&str; 7] = ["ENOSPC", "EIO", "EDQUOT", "EMFILE", "EINTR", "EACCES", "EROFS"];
const STATUSES: [&str; 6] = ["NO_SPACE", "IO", "PERMISSION", "UNSUPPORTED", "NOT_FOUND", "LIMIT"];

#[test]
fn any_system_call_may_fail() {
    let Some(tool) = Tool::new() else { return };
    let (mut injected, mut failed) = (0, 0);
    for operation in tool.operations() {
        let cases: Vec<_> =
            sites(&tool, &operation).into_iter().flat_map(|site| ERRORS.map(|error| (site.clone(), error))).collect();
        // Not a multiple of the number of errors, so that each of them has its turn.
        for (site, error) in some_of(cases, 17) {
            let store = tool.prepare(&operation);
            let inject = format!("inject={}:error={error}:when={}", site.call, site.nth);
            let output = tool.run(&operation, &store, &["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
            let context = format!("{}: {error} at {site:?}", operation.name);
            injected += 1;
            match output.status.code() {
                Some(0) => {}
                Some(1) => {
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    let status = text.strip_prefix("blimg: ").and_then(|rest| rest.split(':').next());
                    assert!(status.is_some_and(|status| STATUSES.contains(&status)), "{context}: {output:?}");
                    failed += 1;
                }
                _ => panic!("{context}: {output:?}"),
            }
            let found = findings(&store);
            assert!(found.is_empty() || operation.is_damaged, "{context}: {found:?}");
            let again = tool.run(&operation, &store, &[]);
            assert!(again.status.success() || operation.name == "remove", "{context}: {again:?}");
            assert_eq!(findings(&store), [], "{context}, and again");
            (operation.holds)(&Storage::open(&store, &StorageOptions::default()).unwrap());
        }
    }
    assert!(failed > injected / 10, "{failed} of {injected} errors were seen");
    println!("errors: {injected} injected, {failed} ended the operation with a status, the rest did no harm");
}
