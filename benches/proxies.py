"""The programs that `run.py` measures: how each is configured, started, reloaded, watched and ended.

Must never end a process that it did not start, nor by name: each child is ended by its own process id. Must never
give one proxy an advantage: each runs on the core it is told, with one worker, on loopback.
Configuration templates: conf/ beside this file.
"""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
PROXY_CORE, LOAD_CORE = 0, 1
# Set by --nice: a shared machine is disturbed less when everything measured goes before everything else.
PRIORITY = []
SERVICE, METHOD = "com.example.EchoService", "echo"
READY_MAX = 20.0
SERIAL = itertools.count(1)


def free_port():
    """A free port below the range that outgoing connections take theirs from: a client that keeps trying a port of
    that range meets itself sooner or later, and an upstream connection may sit on it when the proxy wants it."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def pinned(core, command):
    # Both replace themselves with the command, so the process id stays the one we started.
    return [*PRIORITY, "taskset", "-c", str(core), *map(str, command)]


def end(process, patience=8.0):
    """Asks one child to end, then makes it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def family(root):
    """A process and everything it started, directly or not."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The command name may hold spaces and parentheses; the parent is the second field after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, [])
    return found


def memory_kib(pids):
    """(sum of VmRSS, sum of PSS): what is shared between the processes counts once only in the second."""
    rss = pss = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        rss += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
        pss += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return rss, pss


def cpu_ns(pid):
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total


class Echo:
    """The service behind the proxies, on the load generator's core."""

    def __init__(self, tools, protocol):
        command = pinned(LOAD_CORE, [tools / "echo", "--protocol", protocol])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[1]

    def close(self):
        end(self.process)


class Proxy:
    """One proxy under test. `protocols` are those it is measured with; `reloads` says how it takes a new conf."""

    name = ""
    protocols = ("bolt", "dubbo", "tcp")
    reloads = ""

    def __init__(self, binary, directory):
        self.binary = binary
        self.directory = Path(directory) / f"{self.name}-{next(SERIAL)}"
        self.directory.mkdir()
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self.process = None
        self.log = None

    @classmethod
    def version_of(cls, binary):
        for option in cls.version_options:
            done = subprocess.run([binary, option], capture_output=True, text=True, check=False)
            text = (done.stdout + done.stderr).strip()
            if text:
                return text.splitlines()[0].strip()
        return "unknown"

    version_options = ("--version",)

    def fill(self, template, **values):
        values = {"listen": self.target, "host": "127.0.0.1", "port": self.port, "dir": self.directory, **values}
        return Template((HERE / "conf" / template).read_text()).substitute(values)

    def write(self, name, text):
        # Written beside and renamed: whoever watches the file never sees half of it.
        path = self.directory / name
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)
        return path

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def start(self):
        self.log = open(self.directory / "output.log", "ab")
        command = pinned(PROXY_CORE, self.command())
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at start:\n{self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"{self.name} does not listen:\n{self.tail()}")

    def tail(self):
        try:
            return (self.directory / "output.log").read_text(errors="replace")[-1500:]
        except OSError:
            return ""

    def pids(self):
        return family(self.process.pid)

    def reload(self, upstream, turn):
        raise NotImplementedError

    def close(self):
        if self.process:
            started = self.pids()
            end(self.process)
            # A master that had to be killed leaves workers behind: they are ours too.
            for pid in started[1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.log:
            self.log.close()


class Haproxy(Proxy):
    name = "haproxy"
    reloads = "USR2 to the master; the old worker stays for its connections"
    version_options = ("-v",)
    master = False

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        self.master = for_reload
        self.write("haproxy.cfg", self.fill("haproxy.cfg", upstream=upstream))
        return self

    def command(self):
        return [self.binary, "-W" if self.master else "-db", "-q", "-f", self.directory / "haproxy.cfg"]

    def reload(self, upstream, turn):
        self.write("haproxy.cfg", self.fill("haproxy.cfg", upstream=upstream))
        self.process.send_signal(signal.SIGUSR2)


class Nginx(Proxy):
    name = "nginx"
    reloads = "HUP to the master; the old worker stays for its connections"
    version_options = ("-v",)

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        self.write("nginx.conf", self.fill("nginx.conf", upstream=upstream))
        return self

    def command(self):
        return [self.binary, "-p", self.directory, "-e", self.directory / "error.log", "-c", self.directory / "nginx.conf"]

    def reload(self, upstream, turn):
        self.write("nginx.conf", self.fill("nginx.conf", upstream=upstream))
        self.process.send_signal(signal.SIGHUP)


class Envoy(Proxy):
    def command(self):
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [self.binary, "-c", self.directory / "envoy.yaml", *options]


class EnvoyTcp(Envoy):
    name = "envoy-tcp"
    protocols = ("bolt", "tcp")

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        host, port = upstream.split(":")
        self.write("envoy.yaml", self.fill("envoy-tcp.yaml", upstream_host=host, upstream_port=port))
        return self


class EnvoyDubbo(Envoy):
    name = "envoy-dubbo"
    protocols = ("dubbo",)
    reloads = "the watched route file is replaced"

    def routes(self, count, cluster):
        one = (
            '{{ name: r{n}, interface: {service}, routes: [{{ match: {{ method: {{ name: {{ exact: {method} }} }} }}, '
            "route: {{ cluster: {cluster} }} }}] }}"
        )
        named = enumerate(services(count))
        return [one.format(n=n, service=service, method=METHOD, cluster=cluster) for n, service in named]

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        (host, port), (other_host, other_port) = upstream.split(":"), (other or upstream).split(":")
        indent = "\n" + " " * 18
        if for_reload:
            self.first, self.turn = upstream, 0
            watched = self.write_routes("a")
            text = f"drds: {{ route_config_name: routes, config_source: {{ path_config_source: {{ path: {watched} }} }} }}"
        else:
            lines = indent.join("  - " + route for route in self.routes(routes, "a"))
            text = f"multiple_route_config:{indent}name: routes{indent}route_config:{indent}{lines}"
        addresses = {"upstream_host": host, "upstream_port": port, "other_host": other_host, "other_port": other_port}
        self.write("envoy.yaml", self.fill("envoy-dubbo.yaml", routes=text, **addresses))
        return self

    def write_routes(self, cluster):
        kind = "type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.MultipleRouteConfiguration"
        self.turn += 1
        text = f'version_info: "{self.turn}"\nresources:\n  - "@type": {kind}\n    name: routes\n    route_config:\n'
        return self.write("routes.yaml", text + "".join(f"      - {r}\n" for r in self.routes(1, cluster)))

    def reload(self, upstream, turn):
        self.write_routes("a" if upstream == self.first else "b")


class Outrigger(Proxy):
    name = "outrigger"
    reloads = "HUP; one process"

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False):
        self.protocol, self.count, self.admin = protocol, routes, f"127.0.0.1:{free_port()}"
        self.write_conf(upstream, 0)
        return self

    def write_conf(self, upstream, turn):
        # A limit that is kept and counted on every call and never reached; it differs from one reload to the next.
        limit = f"limit: {{ rate: {1_000_000 + turn}/s, burst: 100000 }}"
        # A relay has connections where the others have calls: nothing to match, and no time in which they must end.
        routes = f"      - {{ match: {{}}, to: echo, {limit} }}"
        if self.protocol != "tcp":
            matches = [f"{{ service: {service}, method: {METHOD} }}" for service in services(self.count)]
            routes = "\n".join(f"      - {{ match: {match}, to: echo, timeout: 5s, {limit} }}" for match in matches)
        values = {"admin": self.admin, "protocol": self.protocol, "upstream": upstream, "routes": routes}
        self.write("outrigger.yaml", self.fill("outrigger.yaml", **values))

    def command(self):
        return [self.binary, "run", "-c", self.directory / "outrigger.yaml"]

    def reload(self, upstream, turn):
        self.write_conf(upstream, turn)
        self.process.send_signal(signal.SIGHUP)


def services(count):
    """Names of the routes; the last one is the one that is called, so that whoever tries them in order tries all."""
    return [f"com.example.catalogue.Service{n:05}" for n in range(count - 1)] + [SERVICE]


class Load:
    """One run of the load generator, on its own core."""

    def __init__(self, tools, protocol, target, *arguments):
        common = [tools / "load", "--protocol", protocol, "--target", target, "--service", SERVICE]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(pinned(LOAD_CORE, [*common, *arguments]), text=True, **pipes)

    def said(self):
        """The next line of its output."""
        return self.process.stdout.readline()

    def report(self, patience=30.0):
        """Its report, once it has ended; {"failed": …} when it gave none."""
        try:
            out, errors = self.process.communicate("", timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, errors = self.process.communicate()
            errors += " (no end)"
        lines = out.splitlines()
        if self.process.returncode == 0 and lines and lines[-1].startswith("{"):
            return json.loads(lines[-1])
        return {"failed": errors.strip()[-300:] or f"exit {self.process.returncode}"}

    def close(self):
        end(self.process)


KINDS = [Haproxy, Nginx, EnvoyTcp, EnvoyDubbo, Outrigger]


class Reaper:
    """Everything started so far, ended in reverse order whatever happens."""

    def __init__(self):
        self.started = []

    def keep(self, thing):
        self.started.append(thing)
        return thing

    def drop(self, *things):
        for thing in things:
            if thing in self.started:
                self.started.remove(thing)
            thing.close()

    def close(self):
        while self.started:
            self.started.pop().close()
