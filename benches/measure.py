#!/usr/bin/env python3
"""The benchmarks of one part each: writing against a plain loop, memory of a large layer, many markers, cached calls, what
a commit and opening a store cost.

usage: measure.py [-n ROUNDS] [--mib MIB] [--quick] [--record]

Builds benches/write.c, benches/layer.c and benches/store.c against the release library (make release first; needs OpenSSL's
headers, and gzip and zstd for the layers). Writing: both forms in alternating order into fresh directories, the first
round dropped, medians and their ratio. Memory: peak above the idle process, of a layer of random and repeated bytes.
Markers: a layer of opaque markers and one of ten times as many, medians of alternating rounds. --quick does the writing
only; --record puts the tables into benches/README.md.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "target/dist/libboxlite_images.so"
README = ROOT / "benches/README.md"


def build(name, to):
    soname = to / "libboxlite_images.so.0"
    shutil.copy(LIBRARY, soname)
    program = to / name
    subprocess.run(
        ["cc", "-O2", "-std=gnu11", ROOT / f"benches/{name}.c", f"-I{ROOT / 'include'}", soname,
         f"-Wl,-rpath,{to}", "-lcrypto", "-o", program], check=True)
    return program


def touch_memory(mib):
    """Memory that a virtual machine has not used lately may have to come back from its host first."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        for _ in range(mib + 64):
            file.write(b"\1" * (1 << 20))


def write_once(program, form, where, mib):
    touch_memory(mib)
    os.sync()
    directory = tempfile.mkdtemp(dir=where)
    try:
        out = subprocess.run([program, form, directory, str(mib)], check=True, capture_output=True, text=True).stdout
        return float(out)
    finally:
        shutil.rmtree(directory)


def file_system(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], check=True, capture_output=True, text=True).stdout.strip()


def writing(work, rounds, mib):
    program = build("write", work)
    rows = ["| into | plain loop | bl_write + bl_commit | ratio |", "|---|---|---|---|"]
    for where in ("/dev/shm", tempfile.gettempdir()):
        seconds = {"store": [], "plain": []}
        for number in range(rounds + 1):
            for form in ["store", "plain"][:: 1 if number % 2 else -1]:
                taken = write_once(program, form, where, mib)
                if number:
                    seconds[form].append(taken)
        store, plain = statistics.median(seconds["store"]), statistics.median(seconds["plain"])
        rows.append(f"| {file_system(where)} | {plain:.3f} s | {store:.3f} s | {store / plain:.3f} |")
    rows.append(f"\nMedians of {rounds} rounds of {mib} MiB.")
    return "\n".join(rows)


def make_layer(work):
    """800 MB that compress to half."""
    tree = work / "tree"
    for i in range(4000):
        directory = tree / f"d{i % 200}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{i}").write_bytes(os.urandom(100_000) + b"x" * 100_000)
    with tarfile.open(work / "layer.tar", "w") as archive:
        archive.add(tree, ".")
    shutil.rmtree(tree)


def sha256(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def run_layer(program, store, blob):
    try:
        command = [program, store, sha256(blob), blob]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def memory(work):
    program = build("layer", work)
    make_layer(work)
    rows = ["| layer | bytes of the file | uncompressed | entries | peak above idle |", "|---|---|---|---|---|"]
    cached = []
    for name, command in (("gzip", ["gzip", "-1", "-k"]), ("zstd", ["zstd", "-q", "-3", "-k"]), ("plain tar", None)):
        if command:
            subprocess.run([*command, work / "layer.tar"], check=True)
        blob = work / {"gzip": "layer.tar.gz", "zstd": "layer.tar.zst", "plain tar": "layer.tar"}[name]
        found = run_layer(program, work / "store", blob)
        cached.append(found["cached_us"])
        peak = (found["peak_kib"] - found["idle_kib"]) / 1024
        rows.append(f"| {name} | {found['bytes_in']} | {found['bytes_out']} | {found['entries']} | {peak:.1f} MiB |")
    rows.append(f"\nA call for a layer that is extracted already: {statistics.median(cached):.1f} µs (aim: under 50).")
    return "\n".join(rows)


def marker_layer(path, count):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for i in range(count):
            archive.addfile(tarfile.TarInfo(f"d{i}/f"))
        for i in range(count):
            archive.addfile(tarfile.TarInfo(f"d{i}/.wh..wh..opq"))


def markers(work, rounds):
    program = build("layer", work)
    counts = (10_000, 100_000)
    seconds = {count: [] for count in counts}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as fast:
        for count in counts:
            marker_layer(work / f"{count}.tar", count)
        for number in range(rounds + 1):
            for count in counts[:: 1 if number % 2 else -1]:
                touch_memory(1024)
                found = run_layer(program, pathlib.Path(fast) / "store", work / f"{count}.tar")
                if number:
                    seconds[count].append(found["seconds"])
    few, many = (statistics.median(seconds[count]) for count in counts)
    return (f"{counts[0]} opaque markers over as many files, each in a directory of its own: {few:.2f} s; {counts[1]}: "
            f"{many:.2f} s; a factor of {many / few:.1f} (aim: at most 12). Medians of {rounds} rounds, tmpfs.")


def store(work, rounds):
    program = build("store", work)
    found = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            answers = [
                json.loads(subprocess.run([program, what, directory if what == "commit" else f"{directory}/many"],
                                          check=True, capture_output=True, text=True).stdout)
                for what in ("commit", "open") if what == "commit" or not os.mkdir(f"{directory}/many")]
            found.append(answers[0] | answers[1])
    hand, commit, opened = (statistics.median(one[key] for one in found) for key in ("hand", "store", "open"))
    return "\n".join([
        "| what | by hand | the store | ratio | aim |", "|---|---|---|---|---|",
        f"| a blob of 4 KiB, durable | {hand:.0f} µs | {commit:.0f} µs | {commit / hand:.2f} | 1.20 |",
        f"| opening a store of 10,000 blobs | | {opened / 1000:.2f} ms | | 5 ms |", "",
        f"Medians of {rounds} rounds, {file_system(tempfile.gettempdir())}. By hand: write, fsync, rename, fsync of the "
        "directory."])


def record(name, table):
    begin, end = f"<!-- {name} -->\n", "\n<!-- end -->"
    text = README.read_text()
    start = text.index(begin) + len(begin)
    README.write_text(text[:start] + table + text[text.index(end, start):])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=15)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        tables = {"writing": writing(work, args.n, args.mib)}
        if not args.quick:
            tables["memory"] = memory(work)
            tables["markers"] = markers(work, min(args.n, 5))
            tables["store"] = store(work, min(args.n, 5))
    for name, table in tables.items():
        print(table, end="\n\n")
        if args.record:
            record(name, table)


main()
