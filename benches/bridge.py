#!/usr/bin/env python3
"""What a bridge costs: thousands of services with many instances each in a real ZooKeeper, carried into a second ZooKeeper and
into a real Nacos, and changes all the time.

Measures how long until all copies stand there (at the pace of the conf, and as fast as it goes), what the target is asked to write in
each second, how long a change takes to arrive, and what the sidecar needs in memory and CPU. Usage, after `cargo build
--release`: benches/bridge.py [--services N] [--instances N] [--changes N] [--seconds S] [--only zookeeper,nacos] [--json FILE]

Needs what registries.py needs, and for Nacos what tests/setup.sh builds. Starts its own servers on free ports of loopback, with
temporary folders, and ends them by their process ids. Must never judge: the numbers are printed.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import proxies
import registries
from proxies import end, free_port
from registries import CREATE, DELETE, ZooKeeper, fill, get, node, rss_kib

# As fast as it goes.
UNBOUND = 1_000_000


class Target:
    """Where the copies go. `writes` counts what it was asked to write so far; `None`: it does not tell."""

    def __init__(self, name, folder):
        self.name = name
        Path(folder).mkdir()
        if name == "zookeeper":
            self.server = ZooKeeper(folder)
            self.conf = f"zookeeper: {{ address: 127.0.0.1:{self.server.port} }}"
        else:
            self.server, port = nacos(folder)
            self.conf = f"nacos: {{ address: 127.0.0.1:{port} }}"

    def writes(self):
        if self.name != "zookeeper":
            return None
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as asked:
            asked.sendall(b"srvr")
            told = b"".join(iter(lambda: asked.recv(4096), b"")).decode()
        zxid = next(line.split(":")[1] for line in told.splitlines() if line.startswith("Zxid"))
        return int(zxid.strip(), 16) & 0xffffffff

    def close(self):
        if self.name == "zookeeper":
            self.server.close()
        else:
            end(self.server)


def nacos(folder):
    project = proxies.HERE.parent / "tests" / "peers" / "nacos-server"
    jar = project / "out" / "nacos-server-1.jar"
    if not jar.exists():
        sys.exit("Nacos is missing: tests/setup.sh builds it")
    while True:
        port = free_port()
        if all(free(port + more) for more in (1000, 1001)):
            break
    command = proxies.pinned(proxies.LOAD_CORE, [
        "java", "-Xms512m", "-Xmx1g", "-XX:+UseSerialGC", f"-Dnacos.home={folder}", f"-Duser.home={folder}",
        "-Dnacos.standalone=true", "-Dserver.servlet.contextPath=/nacos", f"-Dserver.port={port}",
        f"-Dspring.config.additional-location=file:{project}/conf/application.properties", "-cp", jar, "peer.NacosServer"])
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/nacos/v1/ns/operator/metrics", timeout=5) as answer:
                if b"UP" in answer.read():
                    return process, port
        except OSError:
            time.sleep(0.2)
    end(process)
    sys.exit("Nacos did not start")


def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def conf(folder, source, target, admin, pace):
    path = Path(folder) / f"{target.name}-{pace}.yaml"
    path.write_text("\n".join([
        f"app: bench\nadmin: 127.0.0.1:{admin}\nworkers: 1\nstate: off",
        f"registries:\n  from: {{ zookeeper: {{ address: 127.0.0.1:{source.port} }} }}\n  to: {{ {target.conf} }}",
        f"bridges:\n  b: {{ from: from, to: to, level: interface, writes_max: {pace}, election: from }}\n"]))
    return path


def facts(admin):
    return get(admin, "/registries")["bridges"]["b"]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def copied(target, admin, process, wanted):
    """Waits until all stands there: how long that took, and the most that was written in a second."""
    began, last, most, at = time.monotonic(), target.writes(), 0, time.monotonic()
    while True:
        told = facts(admin)
        if told["entries"] == wanted and told["pending"] == 0 and told["waiting"] == 0:
            break
        if time.monotonic() - began > 300:
            sys.exit(f"not all is copied after five minutes: {told}")
        time.sleep(0.1)
        if last is not None and time.monotonic() - at >= 1:
            now = target.writes()
            most = max(most, (now - last) / (time.monotonic() - at))
            last, at = now, time.monotonic()
    return {"copied_after_s": round(time.monotonic() - began, 1), "most_writes_a_second": round(most) or None,
            "cpu_s": round(cpu_seconds(process.pid), 1), "rss_mib": round(rss_kib(process.pid) / 1024, 1)}


def changing(source, options, stop):
    """One instance leaves, and comes back, of another service each time, at an even rate; how many changes that were."""
    done, began, gone = 0, time.monotonic(), []
    while not stop.is_set():
        if done % 2 == 0:
            turn = done // 2
            gone.append(node(turn * 389 % options.services, turn % options.instances))
            source.ask([(DELETE, gone[-1], b"")])
        else:
            source.ask([(CREATE, gone.pop(), b"10.0.0.1")])
        done += 1
        time.sleep(max(0.0, began + done / options.changes - time.monotonic()))
    for path in gone:
        source.ask([(CREATE, path, b"10.0.0.1")])
    return done


def changed(source, target, admin, process, options, wanted):
    """The same under changes: what is written, what it costs, and how far behind it is."""
    # Whoever filled it has not been heard of since.
    source.stream.close()
    source.stream = source.connect()
    stop, counted = threading.Event(), []
    changer = threading.Thread(target=lambda: counted.append(changing(source, options, stop)))
    before, cpu, began = target.writes(), cpu_seconds(process.pid), time.monotonic()
    changer.start()
    waiting, rss = [], []
    while time.monotonic() - began < options.seconds:
        time.sleep(0.25)
        told = facts(admin)
        waiting.append(told["waiting"] + told["pending"])
        rss.append(rss_kib(process.pid) / 1024)
    took, cpu = time.monotonic() - began, cpu_seconds(process.pid) - cpu
    written = target.writes()
    stop.set()
    changer.join()
    ended = time.monotonic()
    while True:
        told = facts(admin)
        if told["entries"] == wanted and told["pending"] == 0 and told["waiting"] == 0 and told["instances"] == wanted:
            break
        if time.monotonic() - ended > 60:
            sys.exit(f"it does not catch up: {told}")
        time.sleep(0.05)
    return {"changes_a_second": round(counted[0] / took, 1),
            "writes_a_second": None if before is None else round((written - before) / took, 1),
            "cpu_of_a_core": round(cpu / took, 3), "rss_mib_most": round(max(rss), 1),
            "behind_most": max(waiting), "in_line_after_s": round(time.monotonic() - ended, 2)}


def measure(name, options, folder, source):
    wanted = options.services * options.instances
    target = Target(name, f"{folder}/{name}")
    out = {}
    try:
        for pace in (options.writes_max, UNBOUND):
            admin = free_port()
            process = registries.start(options, conf(folder, source, target, admin, pace), admin)
            try:
                row = out["paced" if pace != UNBOUND else "unbound"] = copied(target, admin, process, wanted)
                print(f"{name}, {pace} a second: {row}", file=sys.stderr)
                if pace == options.writes_max:
                    time.sleep(3)
                    out["changing"] = changed(source, target, admin, process, options, wanted)
                    print(f"{name}, changing: {out['changing']}", file=sys.stderr)
            finally:
                end(process)
            # Copies of before are taken over, which is another question: they go first.
            until = time.monotonic() + 60
            while name == "zookeeper" and time.monotonic() < until and standing(target):
                time.sleep(0.5)
            time.sleep(2)
    finally:
        target.close()
    return out


def standing(target):
    """How many ephemeral nodes the target has."""
    with socket.create_connection(("127.0.0.1", target.server.port), 10) as asked:
        asked.sendall(b"mntr")
        told = b"".join(iter(lambda: asked.recv(4096), b"")).decode()
    return next((int(line.split()[1]) for line in told.splitlines() if line.startswith("zk_ephemerals_count")), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=2_000)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--changes", type=int, default=50, help="a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--writes-max", type=int, default=500, help="writes_max of the bridge")
    parser.add_argument("--only", default="zookeeper,nacos")
    parser.add_argument("--json", metavar="FILE")
    target = proxies.HERE.parent / "target" / "release"
    parser.add_argument("--outrigger", default=str(target / "outrigger"))
    options = parser.parse_args()
    if not shutil.which("java"):
        sys.exit("a JRE is missing: tests/setup.sh installs one")
    folder = tempfile.mkdtemp(prefix="outrigger-bridge-")
    Path(f"{folder}/source").mkdir()
    source = ZooKeeper(f"{folder}/source")
    try:
        fill(source, options, "/dubbo", options.instances)
        out = {"services": options.services, "instances": options.instances, "writes_max": options.writes_max}
        for name in options.only.split(","):
            out[name] = measure(name, options, folder, source)
    finally:
        source.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(out, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + os.linesep)


if __name__ == "__main__":
    main()
