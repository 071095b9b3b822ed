#!/usr/bin/env python3
"""Images as ext4 disks, side by side with mke2fs, tar and umoci; empty disks; hashes for dm-verity.

usage: ext4.py LAYOUT --mke2fs COMMAND [-n ROUNDS] [--only SET] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md). COMMAND is mke2fs 1.47.2 or newer
with libarchive, by itself or by the dynamic linker of a Debian 13 in a folder. Needs root, gzip, umoci, dumpe2fs, and 14 GB of memory.
Sets: plain, cold, image, names, size, empty, verity. Runs alternate, memory is touched before each, the first round is dropped. mke2fs
takes minutes for 120,000 names, so that it has one round of them. --record writes the table into README.md, or the rows of a set.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from disk import BLIMG, Table, alternate, in_milliseconds, many_names, timed  # noqa: E402
from extract import build, largest_layer, sh, sha256  # noqa: E402

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def layout_of(at, layer, diff_id, media_type):
    """An image of one layer."""
    os.makedirs(f"{at}/blobs/sha256")

    def document(value):
        with open(f"{at}/document", "w") as file:
            json.dump(value, file)
        digest, size = sha256(f"{at}/document"), os.path.getsize(f"{at}/document")
        os.rename(f"{at}/document", f"{at}/blobs/{digest.replace(':', '/')}")
        return {"digest": digest, "size": size}

    digest = sha256(layer)
    shutil.copy(layer, f"{at}/blobs/{digest.replace(':', '/')}")
    config = document({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    manifest = document({
        "schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": media_type, "digest": digest, "size": os.path.getsize(layer)}]})
    index = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
             "annotations": {"org.opencontainers.image.ref.name": "one"}}
    for name, value in (("index.json", {"schemaVersion": 2, "manifests": [index]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(f"{at}/{name}", "w") as file:
            json.dump(value, file)
    return at


def blimg_of(work, library, store):
    return f"LD_LIBRARY_PATH={work}/{library} {BLIMG} --store {store} --quiet"


def imported(layout, tag, store, *more):
    sh(BLIMG, "--store", store, "--quiet", "import", layout, "--select", tag, "--name", "image:1", *more, stdout=subprocess.DEVNULL)
    return store


def from_layers(work, library, store):
    """Makes a disk in a copy of a store that has layers alone. The copy's files are links."""
    return f"cp -al {store} @D/store; {blimg_of(work, library, '@D/store')} disk image:1 @D/disk.img"


def plain(a, table, work, at, blob):
    # A layer need not have all directories that its files are in, and mke2fs wants them.
    layer, tree = f"{at}/layer.tar", f"{at}/tree"
    sh("sh", "-c", f"mkdir {tree}; gzip -dc {blob} | tar -C {tree} -x; tar -C {tree} -cf {layer} .; rm -rf {tree}")
    store = imported(layout_of(f"{at}/plain", layer, sha256(layer), PLAIN), "one", f"{at}/plain-store", "--no-unpack")
    found = alternate(a.n, f"{at}/out", {
        "mke2fs": f"{a.mke2fs} -q -F -t ext4 -d {layer} @D/disk.img 2G", "ours": from_layers(work, "default", store)})
    table.add("a plain layer, against `mke2fs -d TAR`, which hashes nothing", found["mke2fs"], found["ours"], 0.25)
    shutil.rmtree(store)
    os.unlink(layer)


def cold(a, table, work, at, blob, diff_id):
    store = imported(layout_of(f"{at}/gzip", blob, diff_id, GZIP), "one", f"{at}/gzip-store", "--no-unpack")
    theirs = f"mkdir @D/tree; gzip -dc {blob} | tar -C @D/tree -x; {a.mke2fs} -q -t ext4 -d @D/tree @D/disk.img 2G"
    found = alternate(a.n, f"{at}/out", {
        "mke2fs": theirs, **{library: from_layers(work, library, store) for library in ("isal", "default")}})
    for name, bar in (("isal", 0.35), ("default", 0.40)):
        table.add(f"the layer from gzip, `{name}`, against `gzip -dc \\| tar -x` and `mke2fs -d DIR`", found["mke2fs"], found[name], bar)
    shutil.rmtree(store)


def image(a, table, work, layout, tag, at):
    blimg = blimg_of(work, "default", "@D/store")
    ours = f"{blimg} import {layout} --select {tag} --name image:1 --form erofs; {blimg} disk image:1 @D/disk.img"
    theirs = f"umoci unpack --image {layout}:{tag} @D/bundle; {a.mke2fs} -q -t ext4 -d @D/bundle/rootfs @D/disk.img 4G"
    found = alternate(a.n, f"{at}/out", {"umoci": theirs, "ours": ours})
    table.add("the whole image, against `umoci unpack` and `mke2fs -d DIR`", found["umoci"], found["ours"], 0.15)


def names(a, table, work, at):
    layer = f"{at}/names.tar"
    many_names(layer, 120000)
    digest = sha256(layer)
    store = imported(layout_of(f"{at}/names", layer, digest, PLAIN), "one", f"{at}/names-store", "--no-unpack")
    mine = alternate(a.n, f"{at}/out", {"ours": from_layers(work, "default", store)})["ours"]
    theirs = timed(f"{a.mke2fs} -q -t ext4 -N 130000 -d {layer} @D/disk.img 1G", f"{at}/out")
    table.add("120,000 names in a directory, against `mke2fs -d TAR`", theirs, mine, 0.01)
    os.unlink(layer)


def blocks(disk):
    """Blocks of an ext4 that are in use."""
    said = sh("dumpe2fs", "-h", disk, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    number = lambda key: int(re.search(rf"^{key}:\s+(\d+)", said, re.M)[1])
    return number("Block count") - number("Free blocks")


def size(a, table, layout, tag, at):
    """Blocks in use, against mke2fs with the same features, as many inodes, and against our own EROFS."""
    store = imported(layout, tag, f"{at}/size-store", "--form", "erofs")
    blimg = f"{BLIMG} --store {store} --quiet"
    root, disk = f"{at}/size-root", f"{at}/size.img"
    sh("sh", "-c", f"{blimg} rootfs image:1 {root} --mode direct; {blimg} disk image:1 {disk}; "
       f"{blimg} disk image:1 {disk}.erofs --format erofs", stdout=subprocess.DEVNULL)
    inodes = re.search(r"^Inode count:\s+(\d+)", sh("dumpe2fs", "-h", disk, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                                    text=True).stdout, re.M)[1]
    sh("sh", "-c", f"{a.mke2fs} -q -t ext4 -m 0 -N {inodes} -O ^has_journal,^resize_inode -d {root} {disk}.theirs 2G")
    mib = lambda count: count * 4096 / 1e6
    table.add("blocks in use, against mke2fs without a journal and with as many inodes", mib(blocks(f"{disk}.theirs")), mib(blocks(disk)),
              1, "MB")
    table.add("size, against our EROFS", os.path.getsize(f"{disk}.erofs") / 1e6, os.path.getsize(disk) / 1e6, 1.03, "MB")
    for path in (store, root):
        shutil.rmtree(path)


def empty(table, at):
    os.makedirs(f"{at}/empty")
    disk = f"{at}/empty/disk.img"
    blimg = f"{BLIMG} --store {at}/empty-store --quiet"
    sh("sh", "-c", f"{blimg} ls", stdout=subprocess.DEVNULL)
    found = in_milliseconds({"disk": f"{blimg} disk --empty 10G {disk} --replace", "nothing": f"{blimg} ls"})
    taken = found["disk"] - found["nothing"]
    allocated = os.stat(disk).st_blocks * 512 / 1e6
    line = f"| an empty disk of 10 GiB, above `blimg ls`; it takes {allocated:.1f} MB | | {taken:.2f} ms | | 5 ms, 4 MB |"
    table.lines.append(line)
    print(line)


def verity(a, table, work, layout, tag, at):
    store = imported(layout, tag, f"{at}/verity-store", "--form", "erofs")
    make = f"{blimg_of(work, 'default', store)} disk image:1 @D/disk.img"
    sh("sh", "-c", f"rm -rf {at}/out; mkdir {at}/out; {make} --verity".replace("@D", f"{at}/out"), stdout=subprocess.DEVNULL)
    found = alternate(a.n, f"{at}/out", {
        "none": make, "kept": f"{make} --verity", "new": f"rm -f {store}/extracted/*.verity; {make} --verity"})
    hashed = sum(os.path.getsize(f"{store}/extracted/{name}") for name in os.listdir(f"{store}/extracted") if name.endswith(".erofs"))
    for what, taken, bar in (("hashes of a disk of layers whose hashes are kept, above the disk", found["kept"] - found["none"], "30 ms"),
                             (f"hashes of all layers, {hashed / 1e6:.0f} MB", found["new"] - found["kept"], "0.7 s for 890 MB")):
        line = f"| {what} | | {1000 * taken:.0f} ms | | {bar} |"
        table.lines.append(line)
        print(line)
    shutil.rmtree(store)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("--mke2fs", required=True)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--only", action="append")
    parser.add_argument("--record", action="store_true")
    a = parser.parse_args()
    layout = os.path.abspath(a.layout)
    digest, bytes_of_layer, diff_id = largest_layer(layout)
    tag = json.load(open(f"{layout}/index.json"))["manifests"][-1]["annotations"]["org.opencontainers.image.ref.name"]
    table = Table()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir="/dev/shm") as at:
        build(work)
        blob = f"{layout}/blobs/{digest.replace(':', '/')}"
        sets = {
            "plain": lambda: plain(a, table, work, at, blob), "cold": lambda: cold(a, table, work, at, blob, diff_id),
            "image": lambda: image(a, table, work, layout, tag, at), "names": lambda: names(a, table, work, at),
            "size": lambda: size(a, table, layout, tag, at), "empty": lambda: empty(table, at),
            "verity": lambda: verity(a, table, work, layout, tag, at)}
        for name, run in sets.items():
            if not a.only or name in a.only:
                run()
    table.finish(a.n, bytes_of_layer, "ext4" if a.record else None, a.only)


if __name__ == "__main__":
    main()
