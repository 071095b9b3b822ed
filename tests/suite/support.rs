//! The vocabulary of the suite.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use boxlite_images::{Digest, Durability, Staged, Storage, StorageOptions};

/// A directory that is gone at the end of the test, for every user: on the disk, or in memory with `BL_TEST_IN_MEMORY=1`,
/// which `make test` sets. There the kernel gives the inode of a file that is gone out again at once.
pub fn temp_dir() -> tempfile::TempDir {
    static IN_MEMORY: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("BL_TEST_IN_MEMORY").is_some() && memory_has_attributes());
    let dir = if *IN_MEMORY { tempfile::tempdir_in(MEMORY) } else { tempfile::tempdir() }.unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

/// How long anything may take before it is called a hang: a minute, or what `BL_TEST_WATCHDOG_SECONDS` says. No test
/// asserts that something is faster than this: how long it takes is the machine's affair, and the benchmarks'.
pub fn watchdog() -> Duration {
    let seconds = std::env::var("BL_TEST_WATCHDOG_SECONDS").ok();
    Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("BL_TEST_WATCHDOG_SECONDS is a number")))
}

/// Waits until something holds. A hang fails, with what was waited for.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < watchdog(), "{what}: not after {:?}", watchdog());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Does what may hang. A hang ends the test program, and says what hung.
pub fn watched<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let what = what.to_owned();
    let dog = std::thread::spawn(move || {
        if is_done.recv_timeout(watchdog()) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{what}: still at work after {:?}", watchdog());
            std::process::abort();
        }
    });
    let result = work();
    drop(done);
    dog.join().unwrap();
    result
}

/// Whether something is done within a time, in any of some tries: a machine that is busy makes one late, and not all of them.
pub fn is_in_time(limit: Duration, mut takes: impl FnMut() -> Duration) -> bool {
    (0..20).any(|_| takes() < limit)
}

/// Does all cases at once: for those that mostly wait.
#[cfg(feature = "pull")]
pub fn side_by_side<T: Send>(cases: impl IntoIterator<Item = T>, body: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let body = &body;
        cases.into_iter().for_each(|case| _ = scope.spawn(move || body(case)));
    });
}

/// Processor time, user and system, that the calling thread took so far. Unlike a clock it does not see what else the
/// machine does.
pub fn thread_time() -> Duration {
    time_by(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The same of the whole process: for tests in one of their own.
pub fn process_time() -> Duration {
    time_by(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn time_by(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct lives until the call returns.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A FIFO that nobody has open.
pub fn make_fifo(path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

const MEMORY: &str = "/dev/shm";

/// Linux 6.6 and newer have attributes of users there.
fn memory_has_attributes() -> bool {
    tempfile::tempdir_in(MEMORY)
        .is_ok_and(|dir| rustix::fs::setxattr(dir.path(), "user.test", b"x", rustix::fs::XattrFlags::empty()).is_ok())
}

/// A directory in memory, where the system has such a place. It is for many files: a disk's file
/// system would go on to search past them after they are gone.
pub fn temp_dir_in_memory() -> tempfile::TempDir {
    match tempfile::tempdir_in(MEMORY) {
        Ok(dir) => dir,
        Err(_) => temp_dir(),
    }
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
    let started = Instant::now();
    loop {
        let mut found = leftovers_now(store);
        found.retain(|name| !stays(name));
        if found.is_empty() || started.elapsed() > watchdog() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same, without the time.
pub fn leftovers_now(store: &Path) -> Vec<String> {
    ["", "manifests", "configs", "layers", "extracted", "disks", "locks"]
        .iter()
        .flat_map(|folder| names_in(&store.join(folder)).into_iter().map(move |name| format!("{folder}/{name}")))
        .filter(|name| name.ends_with(".downloading") || name.ends_with(".extracting") || name.starts_with("locks/"))
        // It is nobody's, and stays.
        .filter(|name| name != "locks/collection")
        .collect()
}

/// Waits until nothing half-made is in a folder of the host's: a thread may still be removing it.
pub fn assert_nothing_half_made(folder: &Path, what: &str) {
    let is_half_made = |name: &String| name.ends_with(".assembling");
    wait_until(what, || !names_in(folder).iter().any(is_half_made));
}

/// Where the metadata record of a tree is.
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

/// Runs a test's body in processes of their own, as root where we are root and as an ordinary user.
/// Each has 256 MiB of memory above what the test program and what it has prepared need.
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

/// Runs one test of this binary in a child. Linux reaches the binary through its magic link,
/// wherever it lies. A copy in a place open to every user would be "text file busy" whenever
/// another thread forks while it is written.
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
    succeeds(Command::new(program.as_ref()).args(args))
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a C or C++ program that must neither misuse nor lose memory. It does an eighth of its rounds.
pub fn run_in_valgrind(program: &Path, args: &[&OsStr]) {
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--track-fds=no"]);
    command.arg("--errors-for-leak-kinds=definite,indirect,possible").arg(program).args(args);
    succeeds(command.env("BL_TEST_SLOW", "1"));
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

/// What `tests/sanitizers.sh` has the C programs compiled with, and linked to. They are flags of
/// clang, and an archive of the library that was built with the same sanitizer.
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
    // tests/arm64.sh: what compiles for the CPU that these tests are built for.
    let other = std::env::var("BL_TEST_CC").ok();
    let compiler = match (compiler, &other) {
        ("gcc", Some(other)) => other,
        ("gcc", None) if sanitized.is_some() => "clang",
        ("g++", None) if sanitized.is_some() => "clang++",
        _ => compiler,
    };
    run(compiler, &args);
    out.to_owned()
}
