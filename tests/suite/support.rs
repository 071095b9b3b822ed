//! The vocabulary of the suite.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boxlite_images::{Digest, Durability, Staged, Storage, StorageOptions};

/// A directory that is gone at the end of the test, for every user.
pub fn temp_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// A store that does not flush, for speed.
pub fn quick_store(dir: &Path) -> Storage {
    let mut options = StorageOptions::default();
    options.durability = Durability::None;
    Storage::open(dir, &options).unwrap()
}

pub fn put_layer(storage: &Storage, blob: &[u8]) -> Digest {
    let digest = digest_of(blob);
    let mut staged: Staged = storage.stage_layer(&digest, Some(blob.len() as u64)).unwrap();
    staged.write(blob).unwrap();
    staged.commit().unwrap();
    digest
}

/// Names in a directory, sorted; none where it does not exist.
pub fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Partial objects and locks anywhere in a store, once what is being removed had the time.
pub fn leftovers(store: &Path) -> Vec<String> {
    leftovers_but(store, |_| false)
}

/// The same without those that are to stay.
pub fn leftovers_but(store: &Path, stays: impl Fn(&str) -> bool) -> Vec<String> {
    let started = std::time::Instant::now();
    loop {
        let mut found = leftovers_now(store);
        found.retain(|name| !stays(name));
        if found.is_empty() || started.elapsed() > std::time::Duration::from_secs(30) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn leftovers_now(store: &Path) -> Vec<String> {
    ["", "manifests", "configs", "layers", "extracted", "locks"]
        .iter()
        .flat_map(|folder| names_in(&store.join(folder)).into_iter().map(move |name| format!("{folder}/{name}")))
        .filter(|name| name.ends_with(".downloading") || name.ends_with(".extracting") || name.starts_with("locks/"))
        // It is nobody's, and stays.
        .filter(|name| name != "locks/collection")
        .collect()
}

/// Where the metadata record of a tree is.
/// Waits until nothing half-made is in a folder of the host's: a thread may still be removing it, where the machine is slow.
pub fn assert_nothing_half_made(folder: &Path, what: &str) {
    let started = std::time::Instant::now();
    while names_in(folder).iter().any(|name| name.ends_with(".assembling")) {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{what}: {:?}", names_in(folder));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

pub fn record_of(tree: &Path) -> PathBuf {
    let mut name = tree.as_os_str().to_owned();
    name.push(".mtree");
    name.into()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program can be had. Says so where not, and fails with `BL_REQUIRE_TOOLS=1`.
pub fn has_tool(name: &str) -> bool {
    // The two do not go together.
    if name == "valgrind" && sanitized().is_some() {
        return false;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return true;
    }
    skip(&format!("{name} is not installed"));
    false
}

/// Says why a test does nothing here.
pub fn skip(why: &str) {
    assert!(std::env::var_os("BL_REQUIRE_TOOLS").is_none(), "{why}, and BL_REQUIRE_TOOLS is set");
    eprintln!("skipped: {why}");
}

/// Runs a test's body here, and where we are root also as an ordinary user.
pub fn as_each_user(test: &str, body: impl FnOnce()) {
    if !is_child() && is_root() {
        in_child(test, Some(65534));
    }
    body();
}

/// Runs a test's body in processes of their own, as root where we are root and as an ordinary user, with 256 MiB of
/// memory above what the test program and what it has prepared need.
pub fn as_each_user_capped<T>(test: &str, prepare: impl FnOnce() -> T, body: impl FnOnce(T)) {
    if is_child() {
        let prepared = prepare();
        cap_memory(256 << 20);
        return body(prepared);
    }
    in_child(test, None);
    if is_root() {
        in_child(test, Some(65534));
    }
}

fn cap_memory(bytes: u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = libc::rlimit { rlim_cur: used * 1024 + bytes, rlim_max: used * 1024 + bytes };
    // SAFETY: the struct lives until the call returns.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }, 0);
}

/// Runs a test's body in a process of its own, where it may change limits.
pub fn in_own_process(test: &str, body: impl FnOnce()) {
    if is_child() {
        body();
    } else {
        in_child(test, None);
    }
}

fn is_child() -> bool {
    std::env::var_os("BL_TEST_CHILD").is_some()
}

/// Runs one test of this binary in a child. Linux reaches the binary through its magic link, wherever it lies: a copy
/// in a place open to every user would be "text file busy" whenever another thread forks while it is written.
fn in_child(test: &str, uid: Option<u32>) {
    let linux = cfg!(target_os = "linux");
    let binary = if linux { PathBuf::from("/proc/self/exe") } else { std::env::current_exe().unwrap() };
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("BL_TEST_CHILD", "1").current_dir("/");
    // One heap, so that a cap on memory is one on what is used.
    command.env("MALLOC_ARENA_MAX", "1");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid).env("TMPDIR", "/tmp");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} as {uid:?}: {all}");
    assert!(text.contains("1 passed"), "{test} did not run as {uid:?}: {all}");
}

/// Runs a program that must succeed.
pub fn run(program: impl AsRef<OsStr>, args: &[&OsStr]) -> Output {
    let output = Command::new(program.as_ref()).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{:?} {args:?}: {}{}",
        program.as_ref(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library that was built for this run, under its soname in a directory to link and load from.
pub fn library_dir() -> tempfile::TempDir {
    let built = std::env::current_exe().unwrap().parent().unwrap().join("libboxlite_images.so");
    let dir = temp_dir();
    std::os::unix::fs::symlink(&built, dir.path().join("libboxlite_images.so.0")).unwrap();
    assert!(built.exists(), "{} was not built", built.display());
    dir
}

/// What `tests/sanitizers.sh` has the C programs compiled with, and linked to: flags of clang, and an archive of the library
/// that was built with the same sanitizer.
fn sanitized() -> Option<Vec<String>> {
    let flags = std::env::var("BL_TEST_SANITIZED").ok()?;
    Some(flags.split_whitespace().map(str::to_owned).collect())
}

/// Compiles C or C++ sources against the header and the library; gives the program.
pub fn compile(compiler: &str, flags: &[&str], sources: &[PathBuf], library: &Path, out: &Path) -> PathBuf {
    let include = format!("-I{}", repository().join("include").display());
    let rpath = format!("-Wl,-rpath,{}", library.display());
    let (library, sanitized) = (library.join("libboxlite_images.so.0"), sanitized());
    let mut args: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
    args.extend(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", &include].map(OsStr::new));
    args.extend(sources.iter().map(|source| source.as_os_str()));
    match &sanitized {
        Some(more) => args.extend(more.iter().map(OsStr::new)),
        None => args.extend([library.as_os_str(), OsStr::new(&rpath)]),
    }
    args.extend(["-pthread", "-o"].map(OsStr::new));
    args.push(out.as_os_str());
    let compiler = match compiler {
        "gcc" if sanitized.is_some() => "clang",
        "g++" if sanitized.is_some() => "clang++",
        compiler => compiler,
    };
    run(compiler, &args);
    out.to_owned()
}
