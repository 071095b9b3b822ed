#!/usr/bin/env python3
"""Root file systems of a real image, side by side with umoci, and the memory that importing it takes.

usage: rootfs.py LAYOUT [-n ROUNDS] [--umoci PROGRAM] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md). Build first: make
-C examples-c. Needs root, so that owners are set on both sides, umoci, skopeo, and 14 GB of memory. First every
tree is compared with umoci's, entry by entry. Then rounds: each contestant in turn, in alternating order, on a file system
made fresh in memory, with memory touched before; the first round is dropped. Layers are extracted already for copies and
links; direct and umoci read the blobs. Then the image, as skopeo writes it for docker load, plain, is imported through a
pipe. --record writes the tables into README.md.
"""
import argparse, hashlib, json, os, re, shutil, stat, statistics, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BLIMG = f"{ROOT}/examples-c/build/blimg"
AIMS = {"hardlink": 0.12, "copy": 0.35, "direct": 0.30}


def entries(root):
    """Type, mode, owner, time, size, content and attributes by path, and which paths are one file."""
    found, names = {}, {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = ""
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif not stat.S_ISDIR(info.st_mode):
                content = str(info.st_rdev)
            attributes = sorted((key, os.getxattr(path, key, follow_symlinks=False))
                                for key in os.listxattr(path, follow_symlinks=False))
            size = info.st_size if stat.S_ISREG(info.st_mode) else 0
            short = os.path.relpath(path, root)
            found[short] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, size, content, attributes)
            if not stat.S_ISDIR(info.st_mode):
                names.setdefault((info.st_dev, info.st_ino), []).append(short)
    return found, sorted(sorted(group) for group in names.values() if len(group) > 1)


def peak(pid):
    """The most memory that a process has had so far, in MiB; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{pid}/status").read())
    except OSError:
        return 0
    return int(found[1]) / 1024 if found else 0


def import_through_pipe(layout, tag, work):
    """Bytes of the archive, seconds, and peak memory above that of the same process before it got a byte."""
    archive = f"{work}/image.tar"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout}:{tag}", f"docker-archive:{archive}:image:1"],
                   check=True)
    process = subprocess.Popen([BLIMG, "--store", f"{work}/imported", "import", "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL)
    # What it has while it waits.
    idle = last = 0
    while not last or last != idle:
        idle, last = last, peak(process.pid)
        time.sleep(0.2)
    started = time.monotonic()
    feed = threading.Thread(target=lambda: (shutil.copyfileobj(open(archive, "rb"), process.stdin, 1 << 20), process.stdin.close()))
    feed.start()
    most = idle
    while process.poll() is None:
        most = max(most, peak(process.pid))
        time.sleep(0.01)
    seconds = time.monotonic() - started
    feed.join()
    if process.returncode:
        sys.exit("the import failed")
    return os.path.getsize(archive), seconds, most - idle


class FileSystem:
    """An ext4 in memory, fresh each time: one in which much was deleted is slower, and so is a disk."""
    IMAGE = "/dev/shm/bl-rootfs.img"

    def __init__(self, at):
        self.at = at
        os.makedirs(at, exist_ok=True)
        self.leave()
        if not os.path.exists(self.IMAGE):
            with open(self.IMAGE, "wb") as file:
                for _ in range(7 << 10):
                    file.write(b"\1" * (1 << 20))
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1", self.IMAGE], check=True)
        subprocess.run(["mount", "-o", "loop", self.IMAGE, at], check=True)

    def leave(self):
        while subprocess.run(["umount", self.at], stderr=subprocess.DEVNULL).returncode == 0:
            pass


def touch_memory():
    """What a machine gave back while it was idle costs time to get again."""
    subprocess.run([sys.executable, "-c", "import mmap; m = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS "
                    "| 0x8000)"], check=True)


class Bench:
    def __init__(self, layout, tag, umoci, work):
        self.layout, self.tag, self.umoci, self.at = layout, tag, umoci, f"{work}/fs"

    def make(self, what):
        """Makes a root file system on a fresh file system; gives how long it took, and where it is."""
        FileSystem(self.at)
        if what == "umoci":
            command, root = [self.umoci, "unpack", "--image", f"{self.layout}:{self.tag}", f"{self.at}/bundle"], "bundle/rootfs"
        else:
            blimg = [BLIMG, "--store", f"{self.at}/store", "--quiet"]
            # Further names of a device are of one in the store.
            unpack = {"direct": ["--no-unpack"], "hardlink": ["--devices"]}.get(what, [])
            subprocess.run([*blimg, "import", self.layout, "--select", self.tag, "--name", "image:1", *unpack], check=True)
            command, root = [*blimg, "rootfs", "image:1", f"{self.at}/root", "--mode", what, "--devices"], "root"
        os.sync()
        touch_memory()
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.monotonic() - started, f"{self.at}/{root}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--umoci", default="umoci")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    index = json.load(open(f"{args.layout}/index.json"))
    manifest = index["manifests"][-1]
    tag = manifest["annotations"]["org.opencontainers.image.ref.name"]
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        # What everybody reads is in memory, too.
        layout = shutil.copytree(args.layout, f"{memory}/layout")
        bench = Bench(layout, tag, args.umoci, work)
        theirs = entries(bench.make("umoci")[1])
        for mode in AIMS:
            if entries(bench.make(mode)[1]) != theirs:
                sys.exit(f"{mode} is not what umoci makes of it")
        print(f"{len(theirs[0])} entries, {len(theirs[1])} groups of links: the same as umoci's in every mode", flush=True)
        times = {what: [] for what in ["umoci", *AIMS]}
        for number in range(args.n + 1):
            for what in list(times) if number % 2 else reversed(list(times)):
                taken, _ = bench.make(what)
                print(f"{number} {what}: {taken:.2f} s", flush=True)
                if number:
                    times[what].append(taken)
        file_system = FileSystem(bench.at)
        size, seconds, memory_of_import = import_through_pipe(layout, tag, bench.at)
        file_system.leave()
        os.unlink(file_system.IMAGE)
    version = subprocess.run([args.umoci, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    medians = {what: statistics.median(taken) for what, taken in times.items()}
    lines = ["| mode | ours | umoci unpack | ratio | aim |", "|---|---|---|---|---|"]
    for mode, aim in AIMS.items():
        ratio = medians[mode] / medians["umoci"]
        lines.append(f"| {mode} | {medians[mode]:.2f} s | {medians['umoci']:.2f} s | {ratio:.3f} | {aim:.2f} |")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines += ["", f"Medians of {args.n} rounds at commit {commit}; {len(theirs[0])} entries, the same as umoci's in every mode; "
              f"{version}.", "",
              f"Import of the image as a docker-archive of {size} bytes through a pipe: {seconds:.1f} s, at most {memory_of_import:.1f} MiB above the "
              "same process before its first byte (aim: 48)."]
    table = "\n".join(lines)
    print(table)
    if args.record:
        path = f"{ROOT}/benches/README.md"
        text = open(path).read()
        text, count = re.subn(r"(<!-- rootfs -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table + m[2], text, flags=re.S)
        assert count == 1, "no place for the table"
        open(path, "w").write(text)


if __name__ == "__main__":
    main()
