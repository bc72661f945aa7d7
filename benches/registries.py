#!/usr/bin/env python3
"""What a large registry costs: thousands of services with many instances each in a real ZooKeeper, and changes all the time.

Measures how long until all are known, what an instance costs in memory, how many snapshots a second are made of so many
changes, and the latency of calls meanwhile against that of quiet turns between them, in which as much is changed elsewhere in
the same server: what the server itself takes from the machine is no cost of who watches it. Usage, after `make bench` has built
what it needs: benches/registries.py [--services N] [--instances N] [--changes N] [--rounds N] [--seconds S] [--json FILE]

Needs root (the caller runs at a priority of its own), Debian's packages zookeeper and a JRE (tests/setup.sh installs them).
Starts its own server on a free port of loopback, with a temporary folder, and ends it by its process id. Must never judge: the numbers are printed, with what they should be.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import proxies
import report
from proxies import Echo, Load, Reaper, end, free_port

JARS = ("slf4j-api", "slf4j-simple", "netty", "netty-buffer", "netty-codec", "netty-common", "netty-handler",
        "netty-resolver", "netty-transport", "metrics-core", "snappy-java", "commons-cli", "jackson-core",
        "jackson-databind", "jackson-annotations")


class ZooKeeper:
    """A server, and one client of it that speaks as much of its protocol as filling it takes (zookeeper.jute)."""

    def __init__(self, folder):
        self.port = free_port()
        conf = Path(folder) / "zoo.cfg"
        conf.write_text(
            f"tickTime=1000\nminSessionTimeout=2000\nmaxSessionTimeout=60000\ndataDir={folder}/zk\nclientPort={self.port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\nforceSync=no\n4lw.commands.whitelist=srvr,mntr\n")
        listed = subprocess.run(["dpkg", "-L", "libzookeeper-java", "zookeeper"], capture_output=True, text=True, check=True)
        path = [line for line in listed.stdout.splitlines() if line.endswith(".jar")]
        path += [f"/usr/share/java/{name}.jar" for name in JARS if Path(f"/usr/share/java/{name}.jar").exists()]
        command = ["taskset", "-c", str(proxies.LOAD_CORE), "java", "-Xmx768m", "-XX:+UseSerialGC", "-cp", ":".join(path),
                   "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(conf)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.xid, self.lock = 0, threading.Lock()
        try:
            self.stream = self.connect()
        except OSError:
            end(self.process)
            raise

    def connect(self):
        until = time.monotonic() + 30
        while True:
            try:
                stream = socket.create_connection(("127.0.0.1", self.port), 10)
                # A server that is about to start takes connections that it never answers.
                stream.settimeout(2)
                body = struct.pack(">iqiq", 0, 0, 60_000, 0) + struct.pack(">i", 16) + bytes(16) + b"\0"
                stream.sendall(struct.pack(">i", len(body)) + body)
                self.reply(stream)
                stream.settimeout(60)
                return stream
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    @staticmethod
    def reply(stream):
        return recv(stream, struct.unpack(">i", recv(stream, 4))[0])

    def ask(self, requests):
        """Sends them all, then reads as many answers; how many failed."""
        text = lambda value: struct.pack(">i", len(value)) + value
        failed = 0
        with self.lock:
            out = b""
            for kind, path, data in requests:
                self.xid += 1
                body = struct.pack(">ii", self.xid, kind) + text(path.encode())
                if kind == 1:
                    acl = struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone")
                    body += text(data) + acl + struct.pack(">i", 0)
                else:
                    body += struct.pack(">i", -1)
                out += text(body)
            sender = threading.Thread(target=self.stream.sendall, args=(out,))
            sender.start()
            for _ in requests:
                failed += struct.unpack(">iqi", self.reply(self.stream)[:16])[2] != 0
            sender.join()
        return failed

    def close(self):
        self.stream.close()
        end(self.process)


def recv(stream, count):
    got = b""
    while len(got) < count:
        more = stream.recv(count - len(got))
        if not more:
            raise OSError("the server has left")
        got += more
    return got


CREATE, DELETE = 1, 2


def service(at):
    return f"com.example.registry.Service{at:05}"


def node(at, instance, root="/dubbo"):
    """A provider as Dubbo 3 writes it."""
    name = service(at)
    url = (f"dubbo://10.{at >> 8 & 255}.{at & 255}.{instance + 1}:20880/{name}?application=bench&deprecated=false&dubbo=2.0.2"
           f"&dynamic=true&generic=false&interface={name}&methods=echo,sum&prefer.serialization=hessian2,fastjson2"
           f"&release=3.3.6&revision=1.0.0&service-name-mapping=true&side=provider&timestamp=1764500000000&version=1.0.0")
    return f"{root}/{name}/providers/{urllib.parse.quote(url, safe='')}"


# Where nobody watches.
ELSEWHERE = "/elsewhere"


def fill(zookeeper, options, root, instances):
    zookeeper.ask([(CREATE, root, b"")])
    for first in range(0, options.services, 100):
        some = range(first, min(first + 100, options.services))
        parents = [path for at in some for path in (f"{root}/{service(at)}", f"{root}/{service(at)}/providers")]
        zookeeper.ask([(CREATE, path, b"") for path in parents])
        failed = zookeeper.ask([(CREATE, node(at, i, root), b"10.0.0.1") for at in some for i in range(instances)])
        if failed:
            sys.exit(f"{failed} entries could not be written")


def changing(zookeeper, options, root, instances, stop):
    """One instance leaves and comes back, of another service each time, at an even rate."""
    turn, began, done = 0, time.monotonic(), 0
    gone = []
    while not stop.is_set():
        for _ in range(max(1, options.changes // 20)):
            if turn % 2 == 0:
                gone.append(node(turn * 389 % options.services, turn % instances, root))
                zookeeper.ask([(DELETE, gone[-1], b"")])
            else:
                zookeeper.ask([(CREATE, gone.pop(), b"10.0.0.1")])
            turn += 1
        done += max(1, options.changes // 20)
        time.sleep(max(0.0, began + done / options.changes - time.monotonic()))
    for path in gone:
        zookeeper.ask([(CREATE, path, b"10.0.0.1")])
    return done


def conf(options, folder, zookeeper, echo, admin, port, services):
    clusters = [f"  s{at:05}: {{ discover: {{ registry: zk, service: {service(at)}, version: 1.0.0 }} }}" for at in range(services)]
    text = "\n".join([
        f"app: bench\nadmin: 127.0.0.1:{admin}\nworkers: 1\nstate: off",
        f"registries: {{ zk: {{ zookeeper: {{ address: 127.0.0.1:{zookeeper.port} }} }} }}",
        f"listeners: {{ l: {{ bind: 127.0.0.1:{port}, protocol: bolt, routes: [{{ to: echo }}] }} }}",
        f"clusters:\n  echo: {{ endpoints: [\"{echo.address}\"] }}", *clusters, ""])
    path = Path(folder) / f"outrigger-{services}.yaml"
    path.write_text(text)
    return path


def get(admin, page):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}{page}", timeout=10) as answer:
        return json.load(answer)


def rss_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def known(admin):
    watches = get(admin, "/registries")["registries"]["zk"]["watches"]
    return sum(watch["instances"] or 0 for watch in watches)


def start(options, path, admin):
    command = ["taskset", "-c", str(proxies.PROXY_CORE), options.outrigger, "run", "-c", path]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            get(admin, "/stats")
            return process
        except OSError:
            time.sleep(0.05)
    sys.exit("outrigger did not start")


def measure(options, folder, reaper):
    zookeeper = ZooKeeper(folder)
    try:
        echo = reaper.keep(Echo(Path(options.tools), "bolt", False))
        began = time.monotonic()
        fill(zookeeper, options, "/dubbo", options.instances)
        fill(zookeeper, options, ELSEWHERE, 1)
        print(f"{options.services * options.instances} instances written in {time.monotonic() - began:.1f} s", file=sys.stderr)
        out = {"services": options.services, "instances": options.instances, "changes_a_second": options.changes}
        admin, port = free_port(), free_port()
        process = start(options, conf(options, folder, zookeeper, echo, admin, port, options.services), admin)
        try:
            began = time.monotonic()
            while known(admin) < options.services * options.instances:
                if time.monotonic() - began > 120:
                    sys.exit(f"only {known(admin)} instances are known after two minutes")
                time.sleep(0.1)
            out["known_after_s"] = round(time.monotonic() - began, 2)
            time.sleep(2)
            out["rss_mib"] = round(rss_kib(process.pid) / 1024, 1)
            turns(options, zookeeper, reaper, admin, port, out)
            out["rss_mib_after"] = round(rss_kib(process.pid) / 1024, 1)
        finally:
            end(process)
        # The same with one service: what is more is the others'.
        small = start(options, conf(options, folder, zookeeper, echo, admin, port, 1), admin)
        time.sleep(2)
        out["rss_mib_of_one_service"] = round(rss_kib(small.pid) / 1024, 1)
        end(small)
        more = (out["rss_mib"] - out["rss_mib_of_one_service"]) * 1024
        out["kib_each_instance"] = round(more / (options.services * options.instances), 2)
        return out
    finally:
        zookeeper.close()


def turns(options, zookeeper, reaper, admin, port, out):
    rows = {"quiet": [], "changing": []}
    swaps = []
    for turn in range(options.rounds):
        for kind in ("quiet", "changing") if turn % 2 else ("changing", "quiet"):
            stop = threading.Event()
            where = ("/dubbo", options.instances) if kind == "changing" else (ELSEWHERE, 1)
            changer = threading.Thread(target=changing, args=(zookeeper, options, *where, stop))
            changer.start()
            time.sleep(0.5)
            before, began = get(admin, "/stats")["revision"], time.monotonic()
            how = ["open", "--connections", 8, "--rate", 2000, "--seconds", options.seconds, "--warmup", 0.3]
            load = reaper.keep(Load(Path(options.tools), "bolt", f"127.0.0.1:{port}", *how))
            rows[kind].append(load.report())
            reaper.drop(load)
            if kind == "changing":
                swaps.append((get(admin, "/stats")["revision"] - before) / (time.monotonic() - began))
            stop.set()
            changer.join()
            time.sleep(1)
    out["snapshots_a_second"] = round(statistics.median(swaps), 1)
    out["errors"] = sum(row.get("errors") or 0 for kind in rows.values() for row in kind)
    for key in ("p50_us", "p99_us"):
        of = {kind: [row[key] for row in some if row.get(key)] for kind, some in rows.items()}
        quartiles = {kind: report.low(values) for kind, values in of.items()}
        out[key] = {kind: round(value, 1) for kind, value in quartiles.items()}
        out[f"{key}_ratio"] = round(quartiles["changing"] / quartiles["quiet"], 3)
        out[f"{key}_ratio_of_pairs"] = round(statistics.median(a / b for a, b in zip(of["changing"], of["quiet"])), 3)
        out[f"{key}_turns"] = of


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--changes", type=int, default=100, help="a second")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--json", metavar="FILE")
    target = proxies.HERE.parent / "target" / "release"
    parser.add_argument("--outrigger", default=str(target / "outrigger"))
    parser.add_argument("--tools", default=str(target))
    options = parser.parse_args()
    if not shutil.which("java"):
        sys.exit("a JRE is missing: tests/setup.sh installs one")
    # The caller and the echo service share a core with the server and with who changes it (this program), which have more to do
    # where somebody watches. They go first, so that what calls take longer is the sidecar's.
    os.sched_setaffinity(0, {proxies.LOAD_CORE})
    proxies.PRIORITY = ["chrt", "-f", "10"]
    folder, reaper = tempfile.mkdtemp(prefix="outrigger-registries-"), Reaper()
    try:
        out = measure(options, folder, reaper)
    finally:
        reaper.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(out, indent=2))
    print("to be kept: at most 20 snapshots a second, no errors, latencies at most 1.1 times those of quiet turns", file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + os.linesep)


if __name__ == "__main__":
    main()
