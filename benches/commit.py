#!/usr/bin/env python3
"""What was changed as a layer, side by side with umoci repack, tar, zstd and gzip.

usage: commit.py LAYOUT [-n ROUNDS] [--only SET] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md), of which the largest layer is taken.
Needs root, umoci, tar, zstd, gzip, GNU time, and 14 GB of memory. Sets: tree, upper, memory. Runs alternate, memory is touched before
each, the first round is dropped. --record writes the table into README.md.
"""
import argparse, os, shlex, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from disk import BLIMG, Table, alternate, peak  # noqa: E402
from ext4 import GZIP, imported, layout_of  # noqa: E402
from extract import ROOT, largest_layer, sh  # noqa: E402

# Of a hundred files one is changed.
CHANGED = 100


def change(root):
    """Appends to one file in so many; what they are called."""
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    changed = [path for path in files if os.path.isfile(path) and not os.path.islink(path)][::CHANGED]
    for path in changed:
        with open(path, "a") as file:
            file.write("changed\n")
    return changed


def tree(a, table, at, layout):
    """A tree of which one file in a hundred is another."""
    store, root, bundle = imported(layout, "one", f"{at}/store"), f"{at}/root", f"{at}/bundle"
    sh(BLIMG, "--store", store, "--quiet", "rootfs", "image:1", root, stdout=subprocess.DEVNULL)
    sh("umoci", "unpack", "--image", f"{layout}:one", bundle, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stamp = f"{at}/stamp"
    open(stamp, "w").close()
    changed = change(root)
    change(f"{bundle}/rootfs")
    print(f"{len(changed)} files changed")
    forget = f"{BLIMG} --store {store} rm image:2 >@D/removed"
    found = alternate(a.n, f"{at}/out", {
        "umoci": f"cp -al {layout} @D/layout; umoci repack --image @D/layout:new {bundle}",
        "tar": f"find {root} -newer {stamp} ! -type d -print0 | tar --null -T - -c 2>/dev/null | zstd -q >@D/layer",
        # A store has its layers' trees, whose names take longer to copy than this takes.
        "ours": f"{BLIMG} --store {store} --quiet commit image:1 image:2 --tree {root}; {forget}"})
    table.add("a tree with 1 % of its files changed, against `umoci repack`", found["umoci"], found["ours"], 0.15)
    table.add("the same, against `find -newer \\| tar \\| zstd`", found["tar"], found["ours"], 1.3)
    shutil.rmtree(bundle)
    shutil.rmtree(root)


def upper(a, table, at, layout):
    """All of a layer as an upper directory."""
    store, root = imported(layout, "one", f"{at}/store-2"), f"{at}/upper"
    sh(BLIMG, "--store", store, "--quiet", "rootfs", "image:1", root, stdout=subprocess.DEVNULL)
    commit = f"{BLIMG} --store @D --quiet commit scratch image:2 --upper {root}"
    hashed = (f"tar -c -C {root} . | tee >(sha256sum >@D/diff_id) | zstd -q -T2 | tee >(sha256sum >@D/digest) >@D/layer; wait")
    found = alternate(a.n, f"{at}/out", {
        "zstd": f"bash -c {shlex.quote(hashed)}", "ours": commit,
        "gzip": f"tar -cz -C {root} . >@D/layer", "ours-gzip": f"{commit} --compression gzip"})
    table.add("an upper directory, against `tar \\| zstd -T2` and `sha256sum` of both", found["zstd"], found["ours"], 1.1)
    table.add("with gzip, against `tar -cz`, which hashes nothing", found["gzip"], found["ours-gzip"], 0.6)
    shutil.rmtree(root)


def memory(table, at, layout):
    store, root = imported(layout, "one", f"{at}/store-3"), f"{at}/root"
    sh(BLIMG, "--store", store, "--quiet", "rootfs", "image:1", root, stdout=subprocess.DEVNULL)
    idle = peak(f"{BLIMG} --store {store} ls")
    for what, source in (("a tree that is compared", f"image:1 image:2 --tree {root}"), ("an upper directory", f"scratch image:3 --upper {root}")):
        taken = peak(f"{BLIMG} --store {store} --quiet commit {source}")
        line = f"| memory for {what}, above `blimg ls` | | {(taken - idle) / 1024:.1f} MiB | | 32 MiB |"
        table.lines.append(line)
        print(line)
    shutil.rmtree(root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--only", action="append")
    parser.add_argument("--record", action="store_true")
    a = parser.parse_args()
    layout = os.path.abspath(a.layout)
    digest, bytes_of_layer, diff_id = largest_layer(layout)
    table = Table()
    sh("make", "-s", "-C", f"{ROOT}/examples-c")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as at:
        one = layout_of(f"{at}/one", f"{layout}/blobs/{digest.replace(':', '/')}", diff_id, GZIP)
        sets = {
            "tree": lambda: tree(a, table, at, one), "upper": lambda: upper(a, table, at, one),
            "memory": lambda: memory(table, at, one)}
        for name, run in sets.items():
            if not a.only or name in a.only:
                run()
    table.finish(a.n, bytes_of_layer, "commit" if a.record else None, a.only)


if __name__ == "__main__":
    main()
