#!/usr/bin/env python3
"""How much bl_write + bl_commit cost over a plain loop that hashes and writes the same bytes.

usage: write.py [-n ROUNDS] [--mib MIB] [--dir DIR]

Builds benches/write.c against the release library (cargo build --release first; needs OpenSSL's headers), runs both
forms in alternating order into fresh directories below DIR (default /dev/shm, so that the disk is not what is
measured), drops the first round, and prints medians and their ratio.
"""
import argparse
import pathlib
import shutil
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "target/release/libboxlite_images.so"


def build(to):
    soname = to / "libboxlite_images.so.0"
    shutil.copy(LIBRARY, soname)
    program = to / "write"
    subprocess.run(
        ["cc", "-O2", "-std=gnu11", ROOT / "benches/write.c", f"-I{ROOT / 'include'}", soname,
         f"-Wl,-rpath,{to}", "-lcrypto", "-o", program], check=True)
    return program


def once(program, form, where, mib):
    directory = tempfile.mkdtemp(dir=where)
    try:
        out = subprocess.run([program, form, directory, str(mib)], check=True, capture_output=True, text=True).stdout
        return float(out)
    finally:
        shutil.rmtree(directory)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=9)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--dir", default="/dev/shm")
    args = parser.parse_args()
    seconds = {"store": [], "plain": []}
    with tempfile.TemporaryDirectory() as build_dir:
        program = build(pathlib.Path(build_dir))
        for round_number in range(args.n + 1):
            order = ["store", "plain"] if round_number % 2 else ["plain", "store"]
            for form in order:
                taken = once(program, form, args.dir, args.mib)
                if round_number:
                    seconds[form].append(taken)
    store, plain = statistics.median(seconds["store"]), statistics.median(seconds["plain"])
    for form, median in (("plain loop", plain), ("bl_write + bl_commit", store)):
        print(f"{form:22s} {median:.3f} s  {args.mib / median:.0f} MiB/s")
    print(f"ratio {store / plain:.3f} (median of {args.n} rounds, {args.mib} MiB)")


main()
