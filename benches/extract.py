#!/usr/bin/env python3
"""Extraction of one large layer, side by side with the tools that a user would take instead.

usage: extract.py LAYOUT [--harness PATH] [-n ROUNDS] [--umoci PROGRAM] [--bsdtar PROGRAM] [--only SET] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md); its largest layer is
measured. The harness runs all contestants in alternating order on a file system made fresh for each round; it needs
root. Sets: gzip, one-core, plain, zstd, syscalls. --record writes the table into README.md, with --only
the lines of that set.
"""
import argparse, hashlib, json, os, re, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def sh(*command, **options):
    return subprocess.run(command, check=True, **options)


def largest_layer(layout):
    """Digest, size and diff_id of the largest layer."""
    read = lambda digest: json.load(open(f"{layout}/blobs/{digest.replace(':', '/')}"))
    manifest = read(json.load(open(f"{layout}/index.json"))["manifests"][-1]["digest"])
    layers = list(zip(manifest["layers"], read(manifest["config"]["digest"])["rootfs"]["diff_ids"]))
    layer, diff_id = max(layers, key=lambda pair: pair[0]["size"])
    return layer["digest"], layer["size"], diff_id


def sha256(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def one_layer_image(work, layout, digest, size, diff_id):
    """A layout with nothing but the layer, for umoci."""
    image = f"{work}/one"
    os.makedirs(f"{image}/blobs/sha256")
    shutil.copy(f"{layout}/blobs/{digest.replace(':', '/')}", f"{image}/blobs/{digest.replace(':', '/')}")

    def put(document):
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        with open(f"{image}/blobs/sha256/{name}", "wb") as file:
            file.write(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    config = put({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    manifest = put({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size}],
    })
    with open(f"{image}/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    with open(f"{image}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "annotations": {"org.opencontainers.image.ref.name": "dev"}, **manifest}]}, file)
    return image


def build(work):
    """The library twice, and the command line that runs on either."""
    sh("cargo", "build", "--release", "--locked", "--example", "tar-flate2", cwd=ROOT)
    sh("make", "-s", "-C", f"{ROOT}/packaging", "build", "FEATURES=isal", f"TARGET_DIR={ROOT}/target/isal")
    sh("make", "-s", "-C", f"{ROOT}/examples-c")
    for name, built in (("default", "target/dist"), ("isal", "target/isal/dist")):
        os.makedirs(f"{work}/{name}")
        shutil.copy(f"{ROOT}/{built}/libboxlite_images.so", f"{work}/{name}/libboxlite_images.so.0")


def ours(work, library, digest, diff_id):
    return (f"LD_LIBRARY_PATH={work}/{library} {ROOT}/examples-c/build/blimg --store @D --quiet extract {digest} "
            f"--tarball @B --diff-id {diff_id}")


def run_harness(harness, rounds, blob, contestants):
    """Medians by contestant: seconds and peak memory in MiB."""
    out = sh(sys.executable, harness, blob, "-n", str(rounds), *(f"{name}={command}" for name, command in contestants),
             stdout=subprocess.PIPE, text=True).stdout
    print(out, flush=True)
    found = {}
    for line in out.splitlines():
        match = re.match(r"(\S+)\s+wall\s+([\d.]+).*rss\s+([\d.]+)M.*?(FAILED)?$", line)
        if match:
            assert not match[4], f"{match[1]} failed"
            found[match[1]] = float(match[2])
    assert len(found) == len(contestants), out
    return found


def small_file_calls(work):
    """System calls for each of 1,000 small files, by strace, above those of a layer without them."""
    import io, tarfile
    counts = []
    for files in (0, 1000):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            directory = tarfile.TarInfo("d")
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
            for i in range(files):
                info = tarfile.TarInfo(f"d/f{i}")
                info.size = 100
                tar.addfile(info, io.BytesIO(b"x" * 100))
        path = f"{work}/calls-{files}.tar"
        with open(path, "wb") as file:
            file.write(data.getvalue())
        digest = sha256(path)
        trace = f"{work}/calls-{files}.trace"
        command = ours(work, "default", digest, digest).replace("@D", f"{work}/calls-store-{files}").replace("@B", path)
        sh("sh", "-c", command.replace(f"{ROOT}/examples-c", f"strace -f -c -o {trace} {ROOT}/examples-c", 1))
        calls = {}
        for line in open(trace):
            words = line.split()
            if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
                calls[words[-1]] = int(words[3])
        # Waiting and waking between threads is not counted: it depends on who is faster.
        calls.pop("futex", None)
        counts.append(sum(calls.values()))
    return (counts[1] - counts[0]) / 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("--harness", default=f"{ROOT}/../shared/bench/extract_bench.py")
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--umoci", default="umoci")
    parser.add_argument("--bsdtar", default="bsdtar")
    parser.add_argument("--only")
    parser.add_argument("--record", action="store_true")
    a = parser.parse_args()
    digest, size, diff_id = largest_layer(a.layout)
    blob = f"{os.path.abspath(a.layout)}/blobs/{digest.replace(':', '/')}"
    wanted = lambda name: a.only in (None, name)
    rows = []

    def add(what, found, peer, limit, isal="isal", default="default"):
        ratio = found[isal] / found[peer]
        rows.append((what, found[peer], found[isal], ratio, found[default] / found[peer], limit))

    with tempfile.TemporaryDirectory() as work:
        build(work)
        calls = small_file_calls(work) if wanted("syscalls") else None
        mine = [(name, ours(work, name, digest, diff_id)) for name in ("isal", "default")]
        if wanted("gzip"):
            image = one_layer_image(work, a.layout, digest, size, diff_id)
            found = run_harness(a.harness, a.n, blob, [
                ("tar", "tar -C @D -xzf @B"), ("bsdtar", f"{a.bsdtar} -C @D -xpf @B"),
                ("tar+flate2", f"{ROOT}/target/release/examples/tar-flate2 @B @D"),
                ("umoci", f"{a.umoci} unpack --image {image}:dev @D/bundle"),
                ("igzip|tar", "igzip -dc @B | tar -C @D -x"), *mine])
            for peer, what, limit in (("tar", "GNU `tar -xzf`", 0.33), ("bsdtar", "bsdtar", 0.50),
                                      ("tar+flate2", "`tar`+`flate2`, unverified", 0.55), ("umoci", "umoci unpack", 0.20),
                                      ("igzip|tar", "`igzip -dc \\| tar -x`, unverified", 0.75)):
                add(what, found, peer, limit)
        if wanted("one-core"):
            found = run_harness(a.harness, a.n, blob, [
                ("tar", "tar -C @D -xzf @B"), *((name, f"taskset -c 0 env {command}") for name, command in mine)])
            add("one core (`taskset -c 0`) against GNU `tar -xzf`", found, "tar", 0.55)
        if wanted("plain"):
            plain = f"{work}/layer.tar"
            sh("sh", "-c", f"gzip -dc {blob} > {plain}")
            found = run_harness(a.harness, a.n, plain, [
                ("tar", "tar -C @D -xf @B"), *((name, ours(work, name, diff_id, diff_id)) for name in ("isal", "default"))])
            add("plain tar against `tar -xf`", found, "tar", 1.2)
        if wanted("zstd"):
            packed = f"{work}/layer.tar.zst"
            sh("sh", "-c", f"gzip -dc {blob} | zstd -q -3 -T2 > {packed}")
            zstd_digest = sha256(packed)
            found = run_harness(a.harness, a.n, packed, [
                ("zstd|tar", "zstd -dc @B | tar -C @D -x"),
                *((name, ours(work, name, zstd_digest, diff_id)) for name in ("isal", "default"))])
            add("zstd against `zstd -dc \\| tar -x`", found, "zstd|tar", 1.1)
    lines = ["| against | theirs | ours (`isal`) | ratio | aim | ratio of the default build |", "|---|---|---|---|---|---|"]
    lines += [f"| {what} | {theirs:.2f} s | {time:.2f} s | {ratio:.2f} | {limit:.2f} | {default:.2f} |"
              for what, theirs, time, ratio, default, limit in rows]
    commit = sh("git", "rev-parse", "--short", "HEAD", cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    lines += ["", f"Medians of {a.n} rounds at commit {commit}; layer of {size} bytes."]
    if calls is not None:
        lines += [f"System calls for a small file: {calls:.2f} (aim: at most 5)."]
    text = "\n".join(lines) + "\n"
    print(text)
    if a.record:
        path = f"{HERE}/README.md"
        readme = open(path).read()
        begin = readme.index("<!-- extraction -->\n") + len("<!-- extraction -->\n")
        end = readme.index("<!-- end -->", begin)
        if a.only:
            # The other lines stay, with what is said of where they come from.
            text = readme[begin:end]
            for line in lines[2:2 + len(rows)]:
                label = line.split(" | ")[0]
                text = "".join(line + "\n" if old.startswith(label + " |") else old for old in text.splitlines(True))
            text = re.sub(rf"\nSet {a.only} again.*", "", text)
            text = text.rstrip() + f"\nSet {a.only} again at commit {commit}, medians of {a.n} rounds.\n"
        with open(path, "w") as file:
            file.write(readme[:begin] + text + readme[end:])


if __name__ == "__main__":
    main()
