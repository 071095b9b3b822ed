#!/usr/bin/env python3
"""Layers and images as EROFS disks, side by side with mkfs.erofs, igzip, cp and containerd.

usage: disk.py LAYOUT --mkfs COMMAND [--peers ROOT] [-n ROUNDS] [--harness PATH] [--only SET] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md). COMMAND is mkfs.erofs 1.8.6 or
newer, by itself or by the dynamic linker of a Debian 13 in a folder. ROOT is a folder as for pull.py. containerd runs COMMAND in it,
so that the folder of the Debian 13 must be found there by the same name. Needs root, igzip, GNU time, mkfs.xfs, docker-registry, and
14 GB of memory. Sets: layer, plain, image, xfs, names, size, memory, and pull with --peers. Runs alternate, memory is touched before
each, the first round is dropped. --record writes the table into README.md.
"""
import argparse, io, json, os, re, shutil, statistics, subprocess, sys, tarfile, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import pull  # noqa: E402
from extract import ROOT, build, largest_layer, ours, run_harness, sh, sha256  # noqa: E402
from rootfs import touch_memory  # noqa: E402

BLIMG = f"{ROOT}/examples-c/build/blimg"
TAR = "--tar=f --aufs --quiet -Enoinline_data -T0 --mkfs-time --sort=none"


class Table:
    def __init__(self):
        self.lines = []

    def add(self, what, theirs, time, aim, unit="s"):
        digits = 3 if min(theirs, time) < 1 else 2
        self.lines.append(f"| {what} | {theirs:.{digits}f} {unit} | {time:.{digits}f} {unit} | {ratio(time, theirs)} | {aim} |")
        print(self.lines[-1], flush=True)

    def finish(self, rounds, bytes_of_layer, marker, only=None):
        """Prints the table, and writes it into README.md where there is a marker; of some sets, their rows alone."""
        commit = sh("git", "rev-parse", "--short", "HEAD", cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
        path = f"{HERE}/README.md"
        readme = open(path).read()
        begin = readme.index(f"<!-- {marker} -->\n") + len(f"<!-- {marker} -->\n") if marker else 0
        end = readme.index("<!-- end -->", begin) if marker else 0
        if marker and only:
            # A row is known by its words: it may have figures too.
            words = lambda line: re.sub(r"[0-9., ]+", " ", line.split(" | ")[0])
            new = {words(line): line for line in self.lines}
            lines = [new.pop(words(line), line) for line in readme[begin:end].splitlines()]
            assert not new, f"README.md has no such rows: {list(new)}"
            again = f"Again at commit {commit}: {' and '.join(only)}, medians of {rounds}."
            lines = [line for line in lines if line.split(":")[-1] != again.split(":")[-1]] + [again]
        else:
            lines = ["| what | theirs | ours | ratio | aim |", "|---|---|---|---|---|", *self.lines, "",
                     f"Medians of {rounds} rounds at commit {commit}; largest layer of {bytes_of_layer} bytes."]
        text = "\n".join(lines) + "\n"
        print(text)
        if marker:
            with open(path, "w") as file:
                file.write(readme[:begin] + text + readme[end:])


def ratio(ours, theirs):
    """With as many digits as it takes to see which of two near ones is larger."""
    return f"{ours / theirs:.{4 if 0.95 < ours / theirs < 1.05 else 2}f}"


def timed(command, at):
    """Seconds that a command takes in an empty folder on a file system in memory."""
    shutil.rmtree(at, ignore_errors=True)
    os.makedirs(at)
    touch_memory()
    started = time.monotonic()
    sh("sh", "-c", command.replace("@D", at), stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def alternate(rounds, at, commands):
    """Medians by contestant."""
    times = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name in list(commands) if number % 2 else reversed(list(commands)):
            times[name].append(timed(commands[name], at))
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def layer_digests(layout):
    """Digests of all layers, the lowest first."""
    read = lambda digest: json.load(open(f"{layout}/blobs/{digest.replace(':', '/')}"))
    return [layer["digest"] for layer in read(json.load(open(f"{layout}/index.json"))["manifests"][-1]["digest"])["layers"]]


def many_names(path, count):
    """A layer of one directory with so many files."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        directory = tarfile.TarInfo("d")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        for number in range(count):
            info = tarfile.TarInfo(f"d/a-file-among-others-{number}")
            info.size = 10
            tar.addfile(info, io.BytesIO(b"0123456789"))


def peak(command):
    """The most memory of a command, in KiB: by a small program, since a child begins with what its parent had."""
    with tempfile.NamedTemporaryFile("r") as said:
        sh("/usr/bin/time", "-o", said.name, "-f", "%M", "sh", "-c", f"exec {command} >/dev/null")
        return int(said.read())


def in_milliseconds(commands, rounds=100):
    """Median milliseconds of commands that take a few."""
    times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            started = time.monotonic()
            sh(*command.split(), stdout=subprocess.DEVNULL)
            times[name].append(1000 * (time.monotonic() - started))
    return {name: statistics.median(taken) for name, taken in times.items()}


def layers(a, table, work, blob, digest, diff_id):
    mine = [(name, ours(work, name, digest, diff_id) + " --form erofs") for name in ("isal", "default")]
    found = run_harness(a.harness, a.n, blob, [
        ("igzip", "igzip -dc @B"), ("igzip|mkfs", f"igzip -dc @B | {a.mkfs} {TAR} @D/disk"), *mine,
        *((f"{name}-tree", ours(work, name, digest, diff_id)) for name in ("isal", "default"))])
    for name, bars in (("isal", (1.35, 1.15)), ("default", (1.6, 1.3))):
        table.add(f"layer, `{name}`, against `igzip -dc >/dev/null`", found["igzip"], found[name], bars[0])
        table.add(f"layer, `{name}`, against `igzip -dc \\| mkfs.erofs`", found["igzip|mkfs"], found[name], bars[1])
        table.add(f"layer, `{name}`, against our own tree", found[f"{name}-tree"], found[name], 0.75)


def plain_tar(a, table, work, blob, diff_id):
    plain = f"{work}/layer.tar"
    sh("sh", "-c", f"igzip -dc {blob} > {plain}")
    found = run_harness(a.harness, a.n, plain, [
        ("mkfs", f"{a.mkfs} {TAR} @D/disk < @B"), ("ours", ours(work, "default", diff_id, diff_id) + " --form erofs")])
    table.add("plain tar, against `mkfs.erofs --tar=f`, which hashes nothing", found["mkfs"], found["ours"], 1.4)
    os.unlink(plain)


def image(a, table, layout, tag, at, share):
    """The whole image, out of its layers' disks. `share` says that the file system shares blocks."""
    store = f"{at}/store"
    blimg = f"{BLIMG} --store {store} --quiet"
    sh("sh", "-c", f"{blimg} import {layout} --select {tag} --name image:1 --form erofs", stdout=subprocess.DEVNULL)
    disks = [f"{store}/extracted/{digest.replace(':', '-')}.erofs" for digest in layer_digests(layout)]
    sh("sh", "-c", f"{blimg} disk image:1 {at}/flat.img --format erofs; {blimg} disk --cached image:1 --format erofs",
       stdout=subprocess.DEVNULL)
    flat = f"{blimg} disk image:1 @D/disk.img --format erofs"
    copy = f"cp --reflink=never {at}/flat.img @D/disk.img"
    if share:
        found = alternate(a.n, f"{at}/out", {"cp": copy, "flat": flat})
        table.add("flat disk on XFS, which shares blocks, against `cp`", found["cp"], found["flat"], 0.1)
        return
    found = alternate(a.n, f"{at}/out", {
        "fsmerge": f"{a.mkfs} --quiet @D/disk.img {' '.join(disks)}", "merged": f"{blimg} disk image:1 @D/disk --merged",
        "cp": copy, "flat": flat})
    table.add("merged disk, against `mkfs.erofs` of the layers' disks", found["fsmerge"], found["merged"], "0.6, 150 ms")
    table.add("flat disk, against `cp` of it", found["cp"], found["flat"], 1.3)
    found = in_milliseconds({"cached": f"{blimg} disk --cached image:1 --format erofs", "nothing": f"{BLIMG} --version"})
    cached = found["cached"] - found["nothing"]
    line = f"| a disk that is kept already, above `blimg --version` | | {cached:.2f} ms | | 1 ms |"
    table.lines.append(line)
    print(line)


def names(a, table, work, at):
    times = {}
    for count in (40000, 120000):
        layer = f"{work}/names-{count}.tar"
        many_names(layer, count)
        digest = sha256(layer)
        mine = f"{BLIMG} --store @D --quiet extract {digest} --tarball {layer} --diff-id {digest} --form erofs"
        found = alternate(a.n, at, {"ours": mine, "mkfs": f"{a.mkfs} {TAR} @D/disk < {layer}"})
        table.add(f"{count:,} names in a directory, against `mkfs.erofs --tar=f`", found["mkfs"], found["ours"], 0.05)
        times[count] = found["ours"]
    table.add("120,000 names against 40,000", times[40000], times[120000], 3.3)


def sizes(a, table, layout, tag, at):
    """Of each layer's disk, against that of mkfs.erofs."""
    blimg = f"{BLIMG} --store {at}/sizes --quiet"
    sh("sh", "-c", f"{blimg} import {layout} --select {tag} --name image:1 --form erofs", stdout=subprocess.DEVNULL)
    theirs = mine = 0
    for digest in layer_digests(layout):
        name = digest.replace(":", "/")
        sh("sh", "-c", f"gzip -dc {layout}/blobs/{name} | {a.mkfs} {TAR} {at}/theirs.img", stdout=subprocess.DEVNULL)
        theirs += os.path.getsize(f"{at}/theirs.img")
        mine += os.path.getsize(f"{at}/sizes/extracted/{digest.replace(':', '-')}.erofs")
    table.add("size of all layers, against `mkfs.erofs -Enoinline_data`", theirs / 1e6, mine / 1e6, 1.005, "MB")


def memory(table, work, at):
    idle = peak(f"{BLIMG} --version")
    for count in (1000, 1000000):
        layer = f"{work}/memory-{count}.tar"
        many_names(layer, count)
        digest = sha256(layer)
        shutil.rmtree(at, ignore_errors=True)
        used = peak(f"{BLIMG} --store {at} --quiet extract {digest} --tarball {layer} --form erofs") - idle
        name_bytes = sum(len(f"a-file-among-others-{number}") for number in range(count))
        most = (32 << 10) + (128 * count + name_bytes) / 1024
        table.add(f"memory above idle of a layer of {count:,} files", most / 1024, used / 1024, "32 MiB, 128 bytes an entry, names",
                  "MiB")
        os.unlink(layer)


def layout_on_top(layout, at, layers_below):
    """An image of the lowest layers of another one, so many of them, and a layer of its own."""
    shutil.rmtree(at, ignore_errors=True)
    os.makedirs(f"{at}/blobs/sha256")
    path = lambda folder, digest: f"{folder}/blobs/{digest.replace(':', '/')}"
    index = json.load(open(f"{layout}/index.json"))
    manifest = json.load(open(path(layout, index["manifests"][-1]["digest"])))
    config = json.load(open(path(layout, manifest["config"]["digest"])))

    def put(file):
        digest = sha256(file)
        size = os.path.getsize(file)
        shutil.move(file, path(at, digest))
        return {"digest": digest, "size": size}

    def document(value):
        with open(f"{at}/document", "w") as file:
            json.dump(value, file)
        return put(f"{at}/document")

    for layer in manifest["layers"][:layers_below]:
        os.symlink(path(os.path.abspath(layout), layer["digest"]), path(at, layer["digest"]))
    many_names(f"{at}/layer", 10000)
    diff_id = sha256(f"{at}/layer")
    sh("gzip", "-n", f"{at}/layer")
    top = {**manifest["layers"][-1], **put(f"{at}/layer.gz")}
    config["rootfs"]["diff_ids"][layers_below:] = [diff_id]
    config.pop("history", None)
    manifest["layers"][layers_below:] = [top]
    manifest["config"].update(document(config))
    index["manifests"] = [{**index["manifests"][-1], **document(manifest)}]
    for name, value in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(f"{at}/{name}", "w") as file:
            json.dump(value, file)
    return at


def pulls(a, table, work):
    """From a registry on loopback to a disk, all of it new; each on an ext4 that is made fresh in memory."""
    shared = len(layer_digests(a.layout)) - 1
    second_image, third_image = (layout_on_top(a.layout, f"{work}/{name}", below) for name, below in (("second", shared), ("third", 0)))
    at = f"{a.peers}/mnt/bl-pull"
    # containerd calls `mkfs.erofs`.
    tools = tempfile.mkdtemp(dir=a.peers)
    os.chmod(tools, 0o755)
    with open(f"{tools}/mkfs.erofs", "w") as file:
        file.write(f'#!/bin/sh\nexec {a.mkfs} "$@"\n')
    os.chmod(f"{tools}/mkfs.erofs", 0o755)
    os.makedirs(f"{work}/registry")
    registry = pull.Registry(f"{work}/registry", a.layout)
    registry.add(second_image, "second")
    registry.add(third_image, "third")
    config = ('[plugins."io.containerd.service.v1.diff-service"]\ndefault = ["erofs", "walking"]\n'
              '[plugins."io.containerd.snapshotter.v1.erofs"]\n')

    def disk(fs, name):
        blimg = f"{BLIMG} --store {fs.at}/store --quiet"
        image = f"{registry.host}/{name}"
        touch_memory()
        return pull.timed(["sh", "-c", f"{blimg} pull {image} --plain-http {registry.host} --form erofs && "
                           f"{blimg} disk {image} {fs.at}/disk-{os.path.basename(name)} --merged"])[0]

    def theirs(fs):
        touch_memory()
        seconds = pull.containerd(registry, fs, a.peers, "erofs", config, f"/{os.path.relpath(tools, a.peers)}")[0]
        made = sh("sh", "-c", f"find {fs.at}/root -name layer.erofs -size +0 | wc -l", stdout=subprocess.PIPE, text=True).stdout
        if int(made) < shared + 1:
            raise SystemExit(f"containerd made {made.strip()} disks")
        # It mounts what it makes.
        for line in reversed(open("/proc/self/mounts").readlines()):
            mounted = line.split()[1]
            if mounted.startswith(f"{at}/"):
                sh("umount", mounted)
        return seconds

    def second(fs):
        disk(fs, pull.REPOSITORY)
        return disk(fs, "second")

    def trees(fs):
        touch_memory()
        return pull.ours(registry, fs)[0]

    contestants = {"containerd": theirs, "disk": lambda fs: disk(fs, pull.REPOSITORY), "trees": trees, "second": second,
                   "third": lambda fs: disk(fs, "third")}
    times = {name: [] for name in contestants}
    try:
        for turn in range(a.n + 1):
            for name in list(contestants) if turn % 2 else reversed(list(contestants)):
                fs = pull.FileSystem(at)
                os.sync()
                times[name].append(contestants[name](fs))
                print(f"{turn} {name}: {times[name][-1]:.2f} s", flush=True)
                fs.leave()
    finally:
        registry.process.terminate()
        shutil.rmtree(tools)
        subprocess.run(["umount", "-R", at], stderr=subprocess.DEVNULL)
        if os.path.exists("/dev/shm/bl-pull.img"):
            os.unlink("/dev/shm/bl-pull.img")
    found = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    version = sh("chroot", a.peers, "containerd", "--version", stdout=subprocess.PIPE, text=True).stdout.split()[2]
    table.add(f"pulled, as a merged disk, against containerd {version} with its erofs snapshotter and differ", found["containerd"],
              found["disk"], 0.5)
    table.add("pulled, as a merged disk, against our own pull into trees", found["trees"], found["disk"], 0.8)
    table.add(f"a second image that shares {shared} layers, against the first; one with its own layer alone takes "
              f"{found['third']:.2f} s", found["disk"], found["second"], "its own layer's")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("--mkfs", required=True)
    parser.add_argument("--peers")
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--harness", default=f"{ROOT}/../shared/bench/extract_bench.py")
    parser.add_argument("--only", action="append")
    parser.add_argument("--record", action="store_true")
    a = parser.parse_args()
    digest, size, diff_id = largest_layer(a.layout)
    tag = json.load(open(f"{a.layout}/index.json"))["manifests"][-1]["annotations"]["org.opencontainers.image.ref.name"]
    wanted = lambda name: not a.only or name in a.only
    if a.record and (a.only or not a.peers):
        parser.error("--record writes the whole table: it takes --peers, and no --only")
    table = Table()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir="/dev/shm") as at:
        build(work)
        blob = f"{os.path.abspath(a.layout)}/blobs/{digest.replace(':', '/')}"
        if wanted("layer"):
            layers(a, table, work, blob, digest, diff_id)
        if wanted("plain"):
            plain_tar(a, table, work, blob, diff_id)
        if wanted("image"):
            image(a, table, os.path.abspath(a.layout), tag, at, False)
        if wanted("names"):
            names(a, table, work, f"{at}/names")
        if wanted("size"):
            sizes(a, table, os.path.abspath(a.layout), tag, at)
        if wanted("memory"):
            memory(table, work, f"{at}/memory")
        if a.peers and wanted("pull"):
            pulls(a, table, work)
        for name in os.listdir(at):
            path = f"{at}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        if wanted("xfs"):
            with open(f"{at}/xfs.img", "wb") as file:
                file.truncate(9 << 30)
            sh("mkfs.xfs", "-q", f"{at}/xfs.img")
            os.makedirs(f"{at}/xfs")
            sh("mount", "-o", "loop", f"{at}/xfs.img", f"{at}/xfs")
            try:
                image(a, table, os.path.abspath(a.layout), tag, f"{at}/xfs", True)
            finally:
                sh("umount", f"{at}/xfs")
    table.finish(a.n, size, "disks" if a.record else None)


if __name__ == "__main__":
    main()
