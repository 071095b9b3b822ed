#!/usr/bin/env python3
"""Pulling from a registry on loopback, side by side with containerd, podman and crane, and what becomes of a pull that is
killed, cancelled or doubled.

usage: pull.py LAYOUT --peers ROOT [-n ROUNDS] [--only SET] [--record]

LAYOUT is an OCI image layout (of ../shared/bench/make-image.sh full, for the figures in README.md), ROOT a folder to
chroot into with containerd, ctr, podman and crane (of ../shared/bench/peers.sh), with /proc, /sys and /dev in it. Needs root, the `docker-registry` program,
and 6 GB of memory: each round gets a file system made fresh in memory, contestants alternate, the first round is dropped.
Build first: make -C examples-c. Sets: peers, habits. --record writes the tables into README.md.
"""
import argparse, json, os, random, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BLIMG = f"{ROOT}/examples-c/build/blimg"
REPOSITORY = "library/full"


def sh(*command, **options):
    return subprocess.run(command, check=True, **options)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Registry:
    """distribution, with images put where it keeps its own."""

    def __init__(self, work, layout):
        self.data = f"{work}/data"
        self.host = f"127.0.0.1:{free_port()}"
        layers = self.add(layout, REPOSITORY)
        self.size, self.layers = sum(layer["size"] for layer in layers), len(layers)
        with open(f"{work}/config.yml", "w") as file:
            file.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                       f"storage: {{filesystem: {{rootdirectory: {self.data}}}}}\nhttp: {{addr: '{self.host}'}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", f"{work}/config.yml"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(self.host.split(":"), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the registry does not come up")

    def add(self, layout, name):
        """Puts the last image of a layout there; its layers."""
        root = f"{self.data}/docker/registry/v2"
        repository = f"{root}/repositories/{name}"

        def put(path, text):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)

        def blob(descriptor, kind):
            hexadecimal = descriptor["digest"].split(":")[1]
            folder = f"{root}/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}"
            os.makedirs(folder, exist_ok=True)
            shutil.copy(f"{layout}/blobs/sha256/{hexadecimal}", f"{folder}/data")
            put(f"{repository}/{kind}/{hexadecimal}/link", descriptor["digest"])

        manifest = json.load(open(f"{layout}/index.json"))["manifests"][-1]
        document = json.load(open(f"{layout}/blobs/{manifest['digest'].replace(':', '/')}"))
        blob(manifest, "_manifests/revisions/sha256")
        for descriptor in [document["config"], *document["layers"]]:
            blob(descriptor, "_layers/sha256")
        tag = f"{repository}/_manifests/tags/latest"
        put(f"{tag}/current/link", manifest["digest"])
        put(f"{tag}/index/sha256/{manifest['digest'].split(':')[1]}/link", manifest["digest"])
        return document["layers"]


class Tap:
    """A forwarder before the registry that counts what it hands on."""

    def __init__(self, host):
        self.target, self.bytes, self.requests = host.split(":"), 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        # What is on its way when somebody dies was fetched in vain: little of it.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)
        self.host = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def pump(self, source, sink, is_answer):
        try:
            while data := source.recv(256 << 10):
                sink.sendall(data)
                if is_answer:
                    self.bytes += len(data)
                else:
                    self.requests += data.count(b"GET /")
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class FileSystem:
    """An ext4 in memory, fresh."""

    def __init__(self, at):
        self.at, self.image = at, "/dev/shm/bl-pull.img"
        os.makedirs(at, exist_ok=True)
        self.leave()
        # Written once, so that no page of it is new to the machine while somebody is timed.
        if not os.path.exists(self.image):
            with open(self.image, "wb") as file:
                for _ in range(5 << 10):
                    file.write(b"\1" * (1 << 20))
        sh("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0", "-O", "^has_journal", self.image)
        sh("mount", "-o", "loop", self.image, at)

    def leave(self):
        while subprocess.run(["umount", self.at], stderr=subprocess.DEVNULL).returncode == 0:
            pass


def timed(command, **options):
    """Seconds, and peak memory in MiB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = status
    if status:
        raise SystemExit(f"{command}: {errors.decode()}")
    return seconds, usage.ru_maxrss / 1024


def blimg(store, *args):
    return [BLIMG, "--store", store, *args]


def ours(registry, fs, *more):
    return timed(blimg(f"{fs.at}/store", "--quiet", "pull", f"{registry.host}/{REPOSITORY}", "--plain-http", registry.host, *more))


def containerd(registry, fs, peers, snapshotter="overlayfs", more_config="", path=None):
    config = f"{fs.at}/config.toml"
    with open(config, "w") as file:
        file.write('version = 3\ndisabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", '
                   '"io.containerd.grpc.v1.cri"]\n' + more_config)
    inside = "/" + os.path.relpath(fs.at, peers)
    socket_path = f"{inside}/c.sock"
    daemon = subprocess.Popen(["chroot", peers, "containerd", "-c", f"{inside}/config.toml", "--root", f"{inside}/root",
                               "--state", f"{inside}/state", "--address", socket_path],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None)
    try:
        ctr = ["chroot", peers, "ctr", "-a", socket_path]
        for _ in range(200):
            if subprocess.run([*ctr, "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)
        return timed([*ctr, "image", "pull", "--local", "--plain-http", "--snapshotter", snapshotter,
                      f"{registry.host}/{REPOSITORY}:latest"])
    finally:
        daemon.terminate()
        daemon.wait()


def podman(registry, fs, peers):
    inside = "/" + os.path.relpath(fs.at, peers)
    return timed(["chroot", peers, "podman", "--root", f"{inside}/root", "--runroot", f"{inside}/run", "--storage-driver",
                  "overlay", "pull", "--quiet", "--tls-verify=false", f"{registry.host}/{REPOSITORY}:latest"])


def crane(registry, fs, peers):
    inside = "/" + os.path.relpath(fs.at, peers)
    return timed(["chroot", peers, "crane", "pull", "--insecure", "--format=oci",
                  f"{registry.host}/{REPOSITORY}:latest", f"{inside}/image"])


def unpack_alone(registry, fs):
    ours(registry, fs, "--no-unpack")
    os.sync()
    return ours(registry, fs)


def side_by_side(registry, peers, rounds):
    at = f"{peers}/mnt/bl-pull"
    contestants = [
        ("pull and unpack", lambda fs: ours(registry, fs)),
        ("download alone", lambda fs: ours(registry, fs, "--no-unpack")),
        ("unpack alone", lambda fs: unpack_alone(registry, fs)),
        ("containerd", lambda fs: containerd(registry, fs, peers)),
        ("podman", lambda fs: podman(registry, fs, peers)),
        ("crane", lambda fs: crane(registry, fs, peers)),
    ]
    seconds, memory = {}, {}
    for turn in range(rounds + 1):
        order = contestants if turn % 2 == 0 else contestants[::-1]
        for name, run in order:
            fs = FileSystem(at)
            os.sync()
            taken, peak = run(fs)
            print(f"{turn} {name}: {taken:.2f} s, {peak:.0f} MiB", flush=True)
            if turn > 0:
                seconds.setdefault(name, []).append(taken)
                memory.setdefault(name, []).append(peak)
            fs.leave()
    found = {name: statistics.median(values) for name, values in seconds.items()}
    version = lambda *command: subprocess.run(["chroot", peers, *command], capture_output=True, text=True).stdout.split()[-1 if command[0] != "containerd" else 2]
    whole, download, unpack = found["pull and unpack"], found["download alone"], found["unpack alone"]
    lines = ["| | against | ours | theirs | ratio | aim |", "|---|---|---|---|---|---|"]
    for what, peer, mine, aim in (
            ("pull and verified unpack", f"containerd {version('containerd', '--version')}", whole, 0.35),
            ("pull and verified unpack", f"{version('podman', '--version')} (podman)", whole, 0.25),
            ("download alone", "crane", download, 1.30)):
        theirs = found[peer.split()[0] if "podman" not in peer else "podman"]
        lines.append(f"| {what} | {peer} | {mine:.2f} s | {theirs:.2f} s | {mine / theirs:.2f} | {aim:.2f} |")
    slower = max(download, unpack)
    lines.append(f"| pull and verified unpack | the slower of our own halves (download {download:.2f} s, unpack {unpack:.2f} s) "
                 f"| {whole:.2f} s | {slower:.2f} s | {whole / slower:.2f} | 1.50 |")
    idle = statistics.median(timed(blimg(tempfile.mkdtemp(), "df"))[1] for _ in range(3))
    above = statistics.median(memory["pull and unpack"]) - idle
    lines += ["", f"Medians of {rounds} rounds; {registry.size} bytes in {registry.layers} layers. "
              f"Peak memory {above:.0f} MiB above the idle process (aim: 64)."]
    return lines


def habits(registry, work):
    """What is measured without a peer."""
    lines = ["| | measured | aim |", "|---|---|---|"]
    fs = FileSystem(f"{work}/fs")
    tap = Tap(registry.host)
    store = f"{fs.at}/store"
    pull = lambda *more: blimg(store, "--quiet", "pull", f"{tap.host}/{REPOSITORY}", "--plain-http", tap.host, *more)
    timed(pull())
    again = []
    for policy in ("missing", "always"):
        before = tap.requests
        again = sorted(timed(pull("--policy", policy))[0] for _ in range(11))
        requests = (tap.requests - before) / 11
        lines.append(f"| nothing to do, policy `{policy}`: whole process, requests | {again[5] * 1000:.1f} ms, {requests:.0f} "
                     f"| 20 ms, at most 1 |")
    program = f"{work}/cancel"
    library = f"{ROOT}/examples-c/build"
    sh("cc", "-O2", "-std=gnu11", f"{HERE}/cancel.c", f"-I{ROOT}/include", f"{library}/libboxlite_images.so.0",
       f"-Wl,-rpath,{library}", "-o", program)
    ends = []
    for _ in range(20):
        fs = FileSystem(f"{work}/fs")
        moment = str(random.randint(200, 2500))
        out = sh(program, store, tap.host, REPOSITORY, moment, stdout=subprocess.PIPE, text=True).stdout
        ends.append(float(out) / 1000)
    lines.append(f"| cancelled at {len(ends)} random moments: until the call had ended, median and longest "
                 f"| {statistics.median(ends) * 1000:.0f} ms, {max(ends) * 1000:.0f} ms | 100 ms |")
    fs = FileSystem(f"{work}/fs")
    tap.bytes = 0
    kills = 0
    while True:
        process = subprocess.Popen(pull(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kills < 10:
            try:
                process.wait(random.uniform(0.1, 0.6))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                process.wait()
        else:
            assert process.wait() == 0
            break
    lines.append(f"| killed at {kills} random moments, then completed: bytes fetched in all | {tap.bytes / registry.size:.2f} times the image | 1.20 |")
    fs = FileSystem(f"{work}/fs")
    tap.bytes = 0
    both = [subprocess.Popen(pull(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert all(process.wait() == 0 for process in both)
    lines.append(f"| two processes at once: bytes fetched | {tap.bytes / registry.size:.2f} times the image | 1.00 |")
    sh(*blimg(store, "--quiet", "check"))
    fs.leave()
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("layout")
    parser.add_argument("--peers", required=True)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--only")
    parser.add_argument("--record", action="store_true")
    a = parser.parse_args()
    tables = {}
    with tempfile.TemporaryDirectory() as work:
        registry = Registry(work, os.path.abspath(a.layout))
        try:
            if a.only in (None, "habits"):
                tables["pull-habits"] = habits(registry, work)
            if a.only in (None, "peers"):
                tables["pull"] = side_by_side(registry, os.path.abspath(a.peers), a.n)
        finally:
            registry.process.kill()
            subprocess.run(["umount", f"{work}/fs"], stderr=subprocess.DEVNULL)
            if os.path.exists("/dev/shm/bl-pull.img"):
                os.remove("/dev/shm/bl-pull.img")
    commit = sh("git", "rev-parse", "--short", "HEAD", cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    for name, lines in tables.items():
        text = "\n".join([*lines, "", f"At commit {commit}."]) + "\n"
        print(text)
        if a.record:
            path = f"{HERE}/README.md"
            readme = open(path).read()
            mark = f"<!-- {name} -->\n"
            begin = readme.index(mark) + len(mark)
            end = readme.index("<!-- end -->", begin)
            with open(path, "w") as file:
                file.write(readme[:begin] + text + readme[end:])


if __name__ == "__main__":
    main()
