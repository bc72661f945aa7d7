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
GRPC_SERVICE, GRPC_UNARY, GRPC_STREAMING = "bench.Echo", "Echo", "Stream"
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


def forget_peak(pids):
    """From here on, the peak of each process is what it takes from here on."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_kib(pids):
    """Sum of VmHWM, the most that each process ever took."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


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

    def __init__(self, tools, protocol, fixed=False, ports=1, everywhere=False):
        self.command = [tools / "echo", "--protocol", protocol, "--ports", str(ports)]
        if fixed or everywhere:
            # A service that comes back does so at its old address: not one that an outgoing connection may take.
            self.command += ["--listen", f"{'0.0.0.0' if everywhere else '127.0.0.1'}:{free_port()}"]
        self.start()

    def start(self):
        self.process = subprocess.Popen(pinned(LOAD_CORE, self.command), stdout=subprocess.PIPE, text=True)
        self.addresses = self.process.stdout.readline().removeprefix("listening ").split()
        if not self.addresses:
            raise RuntimeError(f"no echo service: exit {self.process.wait()}")
        self.address = self.addresses[0]

    def kill(self):
        """As a crash: whatever it was about to answer is gone."""
        self.process.kill()
        end(self.process)

    def close(self):
        end(self.process)


class Proxy:
    """One proxy under test. `protocols` are those it is measured with; `reloads` says how it takes a new conf;
    `retries` are the ways it may meet a dead endpoint, by name, with whether `configure` is told to send calls again."""

    name = ""
    protocols = ("bolt", "dubbo", "tcp")
    # Whether it copies bytes without looking at calls.
    relay = False
    reloads = ""
    retries = {}
    # Whether the routes name the gRPC method whose answer is a long stream.
    streaming = False

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

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
        """`upstream` is one address, or for HTTP/1 a list of them; `again` asks for calls that were lost with their
        endpoint to be sent to another one."""
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def called(self, protocol):
        """The name of the method that is called."""
        if protocol != "grpc":
            return METHOD
        return GRPC_STREAMING if self.streaming else GRPC_UNARY

    def paths(self, protocol, routes):
        """Where `load` finds the methods of the services over HTTP."""
        return [f"/{service}/{self.called(protocol)}" for service in services(routes, protocol)]

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
    protocols = ("bolt", "dubbo", "tcp", "http1", "grpc")
    relay = True
    reloads = "USR2 to the master; the old worker stays for its connections"
    version_options = ("-v",)
    master = False

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
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
    relay = True
    reloads = "HUP to the master; the old worker stays for its connections"
    version_options = ("-v",)

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
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
    relay = True

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
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
        named = enumerate(services(count, "dubbo"))
        return [one.format(n=n, service=service, method=METHOD, cluster=cluster) for n, service in named]

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
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


class HaproxyHttp(Haproxy):
    name = "haproxy-http"
    protocols = ("http1", "grpc")
    relay = False
    reloads = "USR2 to the master; the old worker ends its connections with their next answer"
    retries = {"retry-on all-retryable-errors": True}

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
        self.master, self.again = for_reload, again
        self.http2 = " proto h2" if protocol == "grpc" else ""
        # One route is an ACL, as one writes it; more are a map from path to backend.
        paths = self.paths(protocol, routes)
        self.choice = f"echo if {{ path {paths[-1]} }}"
        if routes > 1:
            lines = "".join(f"{each} echo\n" for each in paths)
            self.choice = f"%[path,map_str({self.write('paths.map', lines)})]"
        self.write_conf(upstream)
        return self

    def write_conf(self, upstream):
        named = enumerate(addresses(upstream))
        servers = "\n".join(f"  server echo{n} {address}{self.http2}" for n, address in named)
        failures = "  retries 3\n  option redispatch 1\n  retry-on all-retryable-errors" if self.again else ""
        values = {"servers": servers, "choice": self.choice, "failures": failures, "http2": self.http2}
        self.write("haproxy.cfg", self.fill("haproxy-http.cfg", **values))

    def reload(self, upstream, turn):
        self.write_conf(upstream)
        self.process.send_signal(signal.SIGUSR2)


class NginxHttp(Nginx):
    name = "nginx-http"
    protocols = ("http1", "grpc")
    relay = False
    reloads = "HUP to the master; the old worker ends its connections with their next answer, idle ones at once"
    retries = {"defaults": False, "proxy_next_upstream … non_idempotent": True}

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
        self.protocol, self.count, self.again = protocol, routes, again
        self.write_conf(upstream)
        return self

    def write_conf(self, upstream):
        grpc = self.protocol == "grpc"
        servers = "\n".join(f"    server {address};" for address in addresses(upstream))
        passing = "grpc_pass grpc://echo" if grpc else "proxy_pass http://echo"
        locations = [f"    location = {each} {{ {passing}; }}" for each in self.paths(self.protocol, self.count)]
        failures = "    proxy_next_upstream error timeout non_idempotent;" if self.again else ""
        values = {"servers": servers, "locations": "\n".join(locations), "failures": failures}
        self.write("nginx.conf", self.fill("nginx-grpc.conf" if grpc else "nginx-http.conf", **values))

    def reload(self, upstream, turn):
        self.write_conf(upstream)
        self.process.send_signal(signal.SIGHUP)


class EnvoyHttp(Envoy):
    name = "envoy-http"
    protocols = ("http1", "grpc")
    reloads = "the watched route file is replaced"
    retries = {"defaults": False, "retry_on: reset,connect-failure": True}

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
        self.protocol, self.count, self.again = protocol, routes, again
        if for_reload:
            self.first, self.turn = upstream, 0
            watched = self.write_routes("a")
            source = f"{{ path_config_source: {{ path: {watched} }}, resource_api_version: V3 }}"
            table = f"rds: {{ route_config_name: routes, config_source: {source} }}"
        else:
            table = f"route_config: {self.table('a')}"
        values = {"endpoints": self.endpoints(upstream), "others": self.endpoints(other or upstream), "routes": table}
        values.update(codec="HTTP1", upstream_protocol="")
        if protocol == "grpc":
            options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            explicit = "explicit_http_config: { http2_protocol_options: {} }"
            typed = f"{{ {options}: {{ '@type': type.googleapis.com/{options}, {explicit} }} }}"
            values.update(codec="HTTP2", upstream_protocol=f"typed_extension_protocol_options: {typed}")
        self.write("envoy.yaml", self.fill("envoy-http.yaml", **values))
        return self

    def endpoints(self, upstream):
        one = "{{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}"
        return ", ".join(one.format(*address.split(":")) for address in addresses(upstream))

    def table(self, cluster):
        again = ""
        if self.again:
            elsewhere = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            again = (
                ", retry_policy: { retry_on: 'reset,connect-failure', num_retries: 3, "
                "host_selection_retry_max_attempts: 3, "
                "retry_host_predicate: [{ name: envoy.retry_host_predicates.previous_hosts, "
                f"typed_config: {{ '@type': type.googleapis.com/{elsewhere} }} }}] }}"
            )
        if self.streaming:
            # A route's time is that of the whole answer, and it is 15 seconds.
            again = ", timeout: 0s"
        one = "{{ match: {{ path: {path} }}, route: {{ cluster: {cluster}{again} }} }}"
        paths = self.paths(self.protocol, self.count)
        routes = ", ".join(one.format(path=each, cluster=cluster, again=again) for each in paths)
        return f"{{ name: routes, virtual_hosts: [{{ name: echo, domains: ['*'], routes: [{routes}] }}] }}"

    def write_routes(self, cluster):
        kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
        self.turn += 1
        table = self.table(cluster).replace("{", f'{{ "@type": {kind}, ', 1)
        return self.write("routes.yaml", f'version_info: "{self.turn}"\nresources:\n  - {table}\n')

    def reload(self, upstream, turn):
        self.write_routes("a" if upstream == self.first else "b")


class Outrigger(Proxy):
    name = "outrigger"
    protocols = ("bolt", "dubbo", "tcp", "http1", "grpc")
    reloads = "HUP; one process"
    retries = {"defaults": False, "idempotent: true": True}

    def configure(self, upstream, protocol, routes=1, other=None, for_reload=False, again=False):
        self.protocol, self.count, self.admin = protocol, routes, f"127.0.0.1:{free_port()}"
        self.again = again
        self.write_conf(upstream, 0)
        return self

    def write_conf(self, upstream, turn):
        # A limit that is kept and counted on every call and never reached; it differs from one reload to the next.
        limit = f"limit: {{ rate: {1_000_000 + turn}/s, burst: 100000 }}"
        # A relay has connections where the others have calls: nothing to match, and no time in which they must end.
        routes = f"      - {{ match: {{}}, to: echo, {limit} }}"
        if self.protocol != "tcp":
            named = ("service: {}, method: " if self.protocol != "http1" else "path: /{}/") + self.called(self.protocol)
            matches = [f"{{ {named.format(service)} }}" for service in services(self.count, self.protocol)]
            timeout = "90s" if self.streaming else "5s"
            rest = f"to: echo, timeout: {timeout}, {'idempotent: true, ' if self.again else ''}{limit}"
            routes = "\n".join(f"      - {{ match: {match}, {rest} }}" for match in matches)
        self.write_with(upstream, routes, "    balance: p2c_ewma")

    def write_with(self, upstream, routes, cluster):
        endpoints = ", ".join(addresses(upstream))
        values = {"endpoints": endpoints, "routes": routes, "cluster": cluster}
        self.write("outrigger.yaml", self.fill("outrigger.yaml", admin=self.admin, protocol=self.protocol, **values))

    def command(self):
        return [self.binary, "run", "-c", self.directory / "outrigger.yaml"]

    def reload(self, upstream, turn):
        self.write_conf(upstream, turn)
        self.process.send_signal(signal.SIGHUP)


class Bare(Outrigger):
    """Outrigger with one route, endpoints in turn, and no policy at all: not even those that it has by default."""

    def match(self):
        named = ("service: {}, method: " if self.protocol != "http1" else "path: /{}/") + self.called(self.protocol)
        return named.format(services(1, self.protocol)[-1])

    def write_conf(self, upstream, turn):
        routes = f"      - {{ match: {{ {self.match()} }}, to: echo, timeout: 5s }}"
        self.write_with(upstream, routes, "    balance: round_robin\n    outlier: off")


class Rich(Bare):
    """The same with everything that is decided for each call, none of which a service that is well ever notices."""

    # A header that calls have, and its value. All routes want it: each call tries nine in vain and matches the tenth.
    HEADERS = {
        "bolt": ("type", "sync"),
        "dubbo": ("remote.application", "peer-consumer"),
        "http1": ("x-tenant", "example"),
        "grpc": ("user-agent", "grpc-go/1.64.0"),
    }
    ROUTES = 10

    def write_conf(self, upstream, turn):
        name, value = self.HEADERS[self.protocol]
        retry = "retry: { on: [reset, overloaded, error], tries: 2, per_try_timeout: 2s }"
        values = [*(f"other-{n}" for n in range(self.ROUTES - 1)), value]
        rest = f"to: echo, timeout: 5s, idempotent: true, {retry}"
        one = f"      - {{ match: {{ {self.match()}, headers: {{ {name}: %s }} }}, {rest} }}"
        outlier = "{ consecutive: 5, ejection: 10s, interval: 1s, success_rate: true }"
        cluster = ["balance: p2c_ewma", f"outlier: {outlier}", "retry_budget: { share: 20%, floor: 10 }"]
        lines = "\n".join(f"    {line}" for line in cluster)
        self.write_with(upstream, "\n".join(one % each for each in values), lines)


def addresses(upstream):
    return [upstream] if isinstance(upstream, str) else list(upstream)


def services(count, protocol):
    """Names of the routes; the last one is the one that is called, so that whoever tries them in order tries all."""
    if protocol == "grpc":
        return [f"{GRPC_SERVICE}{n:05}" for n in range(count - 1)] + [GRPC_SERVICE]
    return [f"com.example.catalogue.Service{n:05}" for n in range(count - 1)] + [SERVICE]


class Load:
    """One run of the load generator, on its own core."""

    def __init__(self, tools, protocol, target, *arguments):
        service = services(1, protocol)[-1]
        common = [tools / "load", "--protocol", protocol, "--target", target, "--service", service]
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


KINDS = [Haproxy, Nginx, EnvoyTcp, EnvoyDubbo, HaproxyHttp, NginxHttp, EnvoyHttp, Outrigger]


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
