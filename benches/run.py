#!/usr/bin/env python3
"""Measures Outrigger beside HAProxy, nginx and Envoy on one machine, in interleaved rounds.

Prints tables with ratios and writes every number to results/latest.json. README.md beside this file has the method.
Must never compare numbers of different rounds with each other: a ratio is taken within a round, and the median of
the rounds' ratios is what is reported. Must never count a failed call as a fast one.

    benches/run.py [--quick] [--rounds N] [--only WORD,WORD…] [--check] [--outrigger PATH] [--tools DIR]
"""

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

# Nothing of a run stays in the source tree but its results.
sys.dont_write_bytecode = True

import report
from proxies import KINDS, PRIORITY, Bare, Echo, Haproxy, Load, Outrigger, Reaper, Rich
from proxies import cpu_ns, forget_peak, memory_kib, peak_kib

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = ("bolt", "dubbo", "tcp", "http1", "grpc")
CLOSED = {"8x8": (8, 8), "8x1": (8, 1), "64x1": (64, 1), "32x1": (32, 1)}
SHAPES = (*CLOSED, "open")
PARTS = ("matrix", "stream", "idle", "routes", "policies", "endpoints", "many", "start", "reload", "kill")
OPEN_RATE, OPEN_CONNECTIONS = 2000, 16
MANY_ROUTES, FEW_ROUTES = 10_000, 10
POLICY_ENDPOINTS, MANY_ENDPOINTS, FEW_ENDPOINTS = 20, 10_000, 10
# Where the number of endpoints says least about how many calls share a write.
CONNECTED_SHAPES = {"bolt": "8x1", "dubbo": "8x1", "http1": "32x1"}
# Seconds of load after which every one of many endpoints has its connection.
CONNECTED = 8.0
# Seconds from one kill to the next, and until the killed service is back.
KILL_EVERY, KILL_AWAY, KILL_SERVICES = 2.0, 1.0, 3
# CPU time of a service that answered at least some hundred calls.
WORKED_NS = 2_000_000


def shapes_of(protocol):
    """HTTP/1 carries one call at a time on a connection: nothing is outstanding behind it."""
    return {"http1": ("32x1", "open"), "grpc": ("8x8", "64x1", "open")}.get(protocol, ("8x8", "8x1", "64x1", "open"))


def machine_busy():
    """Seconds that all cores together were not idle since the machine started."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, options):
        self.options = options
        self.tools = Path(options.tools)
        self.reaper = Reaper()
        self.directory = Path(tempfile.mkdtemp(prefix="outrigger-bench-"))
        self.binaries = {
            "haproxy": shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"),
            "nginx": shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"),
            "envoy-tcp": options.envoy,
            "envoy-dubbo": options.envoy,
            "envoy-http": options.envoy,
            "outrigger": options.outrigger,
        }
        self.binaries.update({"haproxy-http": self.binaries["haproxy"], "nginx-http": self.binaries["nginx"]})
        here = {name: path for name, path in self.binaries.items() if path and Path(path).exists()}
        wanted = options.proxies
        self.kinds = [k for k in KINDS if k.name in here and (not wanted or k.name in wanted or k is Haproxy)]
        self.notes = [f"{k.name} is not there: not measured" for k in KINDS if k.name not in here]
        self.results = {part: {} for part in (*PARTS, "memory", "absent")}

    def close(self):
        self.reaper.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def say(self, text):
        print(f"  {time.monotonic() - self.began:5.0f} s  {text}", file=sys.stderr, flush=True)

    def note(self, text):
        self.notes.append(text)
        self.say(text)

    def proxy(self, kind, upstream, protocol, streaming=False, **how):
        """A started proxy, or None (with a note) when it does not start."""
        proxy = self.reaper.keep(kind(self.binaries[kind.name], self.directory))
        proxy.streaming = streaming
        try:
            return proxy.configure(upstream, protocol, **how).start()
        except (RuntimeError, OSError) as error:
            self.reaper.drop(proxy)
            self.results["absent"][kind.name] = self.results["absent"].get(kind.name, 0) + 1
            self.note(f"{kind.name}, {protocol}: {error}")
            return None

    def echo(self, protocol, fixed=False, **how):
        return self.reaper.keep(Echo(self.tools, protocol, fixed, **how))

    def loading(self, protocol, target, *arguments):
        return self.reaper.keep(Load(self.tools, protocol, target, *arguments))

    def load(self, protocol, target, *arguments):
        """Runs the load generator to its end and returns its report."""
        load = self.loading(protocol, target, *arguments)
        result = load.report()
        self.reaper.drop(load)
        return result

    def watched(self, ours, measure):
        """Runs one measurement and adds how many cores something else kept busy meanwhile (stolen time included)."""
        children = lambda: sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
                               for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        own = lambda: children() + sum(map(cpu_ns, ours)) / 1e9
        began, busy, used = time.monotonic(), machine_busy(), own()
        result = measure()
        seconds = time.monotonic() - began
        result["foreign_cores"] = round(max(0.0, (machine_busy() - busy) - (own() - used)) / seconds, 3)
        return result

    def shape(self, protocol, target, shape, pids, seconds=None):
        span = ["--seconds", seconds or self.options.seconds, "--warmup", self.options.warmup]
        if pids:
            span += ["--cpu-of", ",".join(map(str, pids))]
        if shape == "open":
            how = ["open", "--connections", OPEN_CONNECTIONS, "--rate", OPEN_RATE]
        else:
            connections, outstanding = CLOSED[shape]
            how = ["closed", "--connections", connections, "--outstanding", outstanding]
        return self.load(protocol, target, *how, *span)

    # The matrix: protocol × shape × proxy, every round from a fresh start.

    def matrix(self):
        for turn in range(self.options.rounds):
            for protocol in self.options.protocols:
                self.say(f"round {turn + 1} of {self.options.rounds}: {protocol}")
                self.matrix_round(protocol, turn)

    def matrix_round(self, protocol, turn):
        shapes = [shape for shape in self.options.shapes if shape in shapes_of(protocol)]
        if not shapes:
            return
        echo = self.echo(protocol)
        started = [self.proxy(k, echo.address, protocol) for k in self.kinds if protocol in k.protocols]
        proxies = [p for p in started if p]
        ours = [echo.process.pid] + [pid for p in proxies for pid in p.pids()]
        for shape in shapes:
            row = self.results["matrix"].setdefault(protocol, {}).setdefault(shape, {})
            cells = [("direct", echo.address, [])] + [(p.name, p.target, p.pids()) for p in proxies]
            # Each round begins with another one, so that none is always the first after a pause.
            cut = turn % len(cells)
            for name, target, pids in cells[cut:] + cells[:cut]:
                result = self.watched(ours, lambda: self.shape(protocol, target, shape, pids))
                row.setdefault(name, []).append(result)
                if result.get("failed") or result.get("errors"):
                    self.note(f"{protocol} {shape} {name}: {result}")
        for proxy in proxies:
            rss, pss = memory_kib(proxy.pids())
            entry = self.results["memory"].setdefault(protocol, {}).setdefault(proxy.name, [])
            entry.append({"rss_kib": rss, "pss_kib": pss})
        self.reaper.drop(*proxies, echo)

    # One long streaming answer.

    def stream(self):
        for turn in range(self.options.rounds if "grpc" in self.options.protocols else 0):
            self.say(f"round {turn + 1} of {self.options.rounds}: one answer of {self.options.stream_mib} MiB")
            echo = self.echo("grpc")
            kinds = [k for k in self.kinds if "grpc" in k.protocols]
            started = [self.proxy(k, echo.address, "grpc", streaming=True) for k in kinds]
            proxies = [p for p in started if p]
            ours = [echo.process.pid] + [pid for p in proxies for pid in p.pids()]
            cells = [("direct", echo.address, [])] + [(p.name, p.target, p.pids()) for p in proxies]
            cut = turn % len(cells)
            for name, target, pids in cells[cut:] + cells[:cut]:
                result = self.watched(ours, lambda: self.stream_one(target, pids))
                self.results["stream"].setdefault("grpc", {}).setdefault(name, []).append(result)
                if "failed" in result:
                    self.note(f"stream {name}: {result}")
            self.reaper.drop(*proxies, echo)

    def stream_one(self, target, pids):
        """What a short stream makes a proxy allocate is not the long one's."""
        watched = ["--cpu-of", ",".join(map(str, pids))] if pids else []
        short = self.load("grpc", target, "stream", "--bytes", 1 << 14)
        if "failed" in short:
            return short
        before, _ = memory_kib(pids)
        forget_peak(pids)
        result = self.load("grpc", target, "stream", "--bytes", self.options.stream_mib << 20, *watched)
        return {**result, "rss_growth_kib": peak_kib(pids) - before}

    # Idle connections.

    def idle(self):
        for protocol in self.options.protocols:
            for kind in self.kinds:
                if protocol not in kind.protocols:
                    continue
                # A relay does not look at the protocol: Bolt stands for all.
                if protocol != "bolt" and kind.relay:
                    continue
                self.say(f"{self.options.idle} idle connections: {kind.name}, {protocol}")
                entry = self.results["idle"].setdefault(protocol, {})
                entry[kind.name] = {
                    "unused": self.idle_one(kind, protocol, 0),
                    "after_one_call": self.idle_one(kind, protocol, 1),
                }

    def idle_one(self, kind, protocol, calls):
        echo = self.echo(protocol)
        proxy = self.proxy(kind, echo.address, protocol)
        if not proxy:
            self.reaper.drop(echo)
            return {"failed": "did not start"}
        # A first load, so that what is allocated once is not counted as the connections'.
        self.shape(protocol, proxy.target, "64x1", [], seconds=0.3)
        time.sleep(0.3)
        before, _ = memory_kib(proxy.pids())
        count = self.options.idle
        holder = self.loading(protocol, proxy.target, "idle", "--connections", count, "--calls", calls)
        held = holder.said()
        time.sleep(0.5)
        after, _ = memory_kib(proxy.pids())
        result = holder.report()
        self.reaper.drop(holder, proxy, echo)
        if not held.startswith("held") or "failed" in result:
            self.note(f"idle {protocol} {kind.name}: {result}")
            return {"failed": result.get("failed", held)}
        return {"kib_each": (after - before) / count, "closed": result["closed"]}

    # Many routes.

    def routes(self):
        cases = [(k, p) for p in self.options.protocols for k in self.kinds if p in k.protocols]
        for kind, protocol in cases:
            if kind.relay or protocol == "tcp":
                continue
            self.say(f"{MANY_ROUTES} routes against {FEW_ROUTES}: {kind.name}, {protocol}")
            echo = self.echo(protocol)
            few = self.proxy(kind, echo.address, protocol, routes=FEW_ROUTES)
            many = self.proxy(kind, echo.address, protocol, routes=MANY_ROUTES)
            rounds = []
            for turn in range(max(3, self.options.rounds) if few and many else 0):
                pair, foreign = {}, []
                for name, proxy in (("few", few), ("many", many))[:: 1 if turn % 2 else -1]:
                    ours = [echo.process.pid, *few.pids(), *many.pids()]
                    measure = lambda: self.shape(protocol, proxy.target, shapes_of(protocol)[0], proxy.pids())
                    result = self.watched(ours, measure)
                    pair[name] = result.get("cpu_us")
                    foreign.append(result["foreign_cores"])
                    if result.get("failed") or result.get("errors"):
                        self.note(f"routes {name} {kind.name} {protocol}: {result}")
                if all(pair.values()):
                    rounds.append({**pair, "ratio": pair["many"] / pair["few"], "foreign_cores": max(foreign)})
            chosen = [rounds[i] for i in report.quiet(rounds, rounds, rounds)]
            self.results["routes"].setdefault(protocol, {})[kind.name] = {
                "ratio": report.median(r["ratio"] for r in chosen),
                "rounds": rounds,
                "rss_many_kib": memory_kib(many.pids())[0] if many else None,
            }
            self.reaper.drop(*[p for p in (few, many) if p], echo)

    # Policies, and many endpoints: Outrigger beside itself.

    def beside(self, what, protocol, shape, proxies, echoes):
        """Rounds in which each of `proxies` (by name) is measured twice, in one order and back; {name: CPU µs}."""
        ours = [echo.process.pid for echo in echoes] + [pid for p in proxies.values() for pid in p.pids()]
        rounds = []
        for turn in range(max(3, self.options.rounds)):
            order = list(proxies.items())[:: 1 if turn % 2 else -1]
            cpu, foreign = {name: [] for name in proxies}, []
            for name, proxy in order + order[::-1]:
                result = self.watched(ours, lambda: self.shape(protocol, proxy.target, shape, proxy.pids()))
                foreign.append(result["foreign_cores"])
                if result.get("failed") or result.get("errors"):
                    self.note(f"{what} {name}, {protocol} {shape}: {result}")
                else:
                    cpu[name].append(result["cpu_us"])
            means = {name: statistics.mean(both) if len(both) == 2 else None for name, both in cpu.items()}
            rounds.append({**means, "foreign_cores": statistics.mean(foreign)})
        return rounds

    def policies(self):
        """What every policy at once adds to a call, where both confs have the same endpoints: `one` is the bare conf
        with one endpoint, and tells what more connections cost whatever the policies."""
        if not any(kind is Outrigger for kind in self.kinds):
            return
        for protocol in self.options.protocols:
            shapes = [s for s in self.options.shapes if s in shapes_of(protocol) and s not in ("open", "8x1")]
            if protocol == "tcp" or not shapes:
                continue
            self.say(f"policies against none, {POLICY_ENDPOINTS} endpoints: {protocol}")
            echo = self.echo(protocol, ports=POLICY_ENDPOINTS)
            wanted = {"one": (Bare, echo.address), "bare": (Bare, echo.addresses), "rich": (Rich, echo.addresses)}
            proxies = {name: self.proxy(kind, to, protocol) for name, (kind, to) in wanted.items()}
            for shape in shapes if all(proxies.values()) else ():
                rounds = self.beside("policies", protocol, shape, proxies, [echo])
                entry = self.results["policies"].setdefault(protocol, {})
                entry[shape] = report.pair(rounds, "rich", "bare", "one")
            self.reaper.drop(*filter(None, proxies.values()), echo)

    def endpoints(self):
        """Many endpoints against few in one cluster: addresses of 127/8, at all of which one service listens. `called` has
        the same ten get all calls (the others' weight is 0), so that both confs have the same connections, and what is
        compared is the number of endpoints. With `connected` all get calls, and each has its connection before anything
        is counted: what that many connections cost is in it, in the kernel and in what no cache holds."""
        step = MANY_ENDPOINTS // FEW_ENDPOINTS
        for protocol in self.options.protocols if any(kind is Outrigger for kind in self.kinds) else ():
            if protocol == "tcp":
                continue
            echo = self.echo(protocol, everywhere=True)
            port = echo.address.rpartition(":")[2]
            every = [f"127.1.{n // 250}.{n % 250 + 1}:{port}" for n in range(MANY_ENDPOINTS)]
            idle = [each if n % step == 0 else f"{{ address: {each}, weight: 0 }}" for n, each in enumerate(every)]
            cases = {f"{shapes_of(protocol)[0]} called": (idle, 1.0)}
            if protocol in CONNECTED_SHAPES:
                cases[f"{CONNECTED_SHAPES[protocol]} connected"] = (every, CONNECTED)
            for case, (many, warmup) in cases.items():
                self.say(f"{MANY_ENDPOINTS} endpoints against {FEW_ENDPOINTS}: {protocol}, {case}")
                entry = self.endpoints_one(protocol, case, {"many": many, "few": every[::step]}, warmup, echo)
                self.results["endpoints"].setdefault(protocol, {})[case] = entry
            self.reaper.drop(echo)

    def endpoints_one(self, protocol, case, wanted, warmup, echo):
        shape = case.split()[0]
        proxies = {name: self.proxy(Outrigger, to, protocol) for name, to in wanted.items()}
        rounds = []
        if all(proxies.values()):
            for proxy in proxies.values():
                self.shape(protocol, proxy.target, shape, [], seconds=warmup)
            rounds = self.beside("endpoints", protocol, shape, proxies, [echo])
        rss = memory_kib(proxies["many"].pids())[0] if proxies["many"] else None
        self.reaper.drop(*filter(None, proxies.values()))
        return {**report.pair(rounds, "many", "few"), "rss_many_kib": rss}

    def many(self):
        """Without sockets: what `many.rs` times, which is built first, at nobody's expense."""
        command = ["cargo", "bench", "--quiet", "--bench", "many"]
        self.say("ten thousand routes and endpoints without sockets")
        run = lambda *words: subprocess.run([*words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        try:
            built = run(*command, "--no-run").returncode == 0
            lines = run(*PRIORITY, *command).stdout.splitlines() if built else []
        except OSError as error:
            self.note(f"many: {error}")
            return
        found = [json.loads(line) for line in lines if line.startswith("{")]
        self.results["many"] = found[-1] if found else {"failed": "many.rs said nothing"}

    # Start to first answer.

    def start(self):
        mine = lambda kind: [p for p in self.options.protocols if p in kind.protocols]
        # The first of them stands for all: what is started is the same. Only gRPC has to agree on settings first, and
        # a relay does not.
        pairs = {kind.name: (kind, mine(kind)[0]) for kind in self.kinds if mine(kind)}
        also = [k for k in self.kinds if "grpc" in mine(k)[1:] and not k.relay]
        pairs.update({f"{kind.name}, grpc": (kind, "grpc") for kind in also})
        times = {name: [] for name in pairs}
        echoes = {protocol: self.echo(protocol) for _, protocol in pairs.values()}
        self.say(f"start to first answer, {self.options.starts} times each")
        for _ in range(self.options.starts):
            for name, (kind, protocol) in pairs.items():
                proxy = kind(self.binaries[kind.name], self.directory)
                proxy.configure(echoes[protocol].address, protocol)
                command = [str(word) for word in proxy.command()]
                result = self.load(protocol, proxy.target, "first-answer", "--", *command)
                if "failed" in result:
                    self.note(f"start {name}: {result['failed']}")
                else:
                    times[name].append(result["first_answer_us"] / 1000)
        self.reaper.drop(*echoes.values())
        for name, values in times.items():
            if values:
                self.results["start"][name] = {"ms": statistics.median(values), "all_ms": values}

    # Reloads under load.

    def reload(self):
        for kind in self.kinds:
            if not kind.reloads:
                continue
            for protocol in ("bolt", "dubbo", "http1", "grpc"):
                wanted = not kind.relay or protocol == "bolt"
                if wanted and protocol in kind.protocols and protocol in self.options.protocols:
                    self.say(f"{self.options.reloads} reloads at {OPEN_RATE}/s: {kind.name}, {protocol}")
                    outcome = self.reload_one(kind, protocol)
                    self.results["reload"].setdefault(protocol, {})[kind.name] = {"by": kind.reloads, **outcome}

    def reload_one(self, kind, protocol):
        """Every reload sends the calls to the other of two echo services; who works shows whether it took effect."""
        echoes = [self.echo(protocol), self.echo(protocol)]
        addresses = [echo.address for echo in echoes]
        proxy = self.proxy(kind, addresses[0], protocol, other=addresses[1], for_reload=True)
        if not proxy:
            self.reaper.drop(*echoes)
            return {"failed": "did not start"}
        count = self.options.reloads
        how = ["--connections", OPEN_CONNECTIONS, "--rate", OPEN_RATE, "--seconds", count + 1.0]
        load = self.loading(protocol, proxy.target, "open", *how)
        time.sleep(1.0)
        followed, processes, serving = 0, 1, 0
        for turn in range(1, count + 1):
            began = time.monotonic()
            proxy.reload(addresses[turn % 2], turn)
            time.sleep(0.4)
            worked = [cpu_ns(echo.process.pid) for echo in echoes]
            time.sleep(0.4)
            worked = [cpu_ns(echo.process.pid) - before for echo, before in zip(echoes, worked)]
            now = worked.index(max(worked))
            # Staying where they were is not following, even when the next reload points back there.
            followed += now == turn % 2 and serving != now
            serving = now
            processes = max(processes, len(proxy.pids()))
            time.sleep(max(0.0, began + 1.0 - time.monotonic()))
        result = load.report()
        rss, _ = memory_kib(proxy.pids())
        self.reaper.drop(load, proxy, *echoes)
        if "failed" in result:
            self.note(f"reload {protocol} {kind.name}: {result}")
            return result
        kept = {key: result[key] for key in ("calls", "errors", "lost", "wrong", "closed", "p99_us", "p999_us")}
        return {**kept, "followed": followed, "reloads": count, "processes": processes, "rss_kib": rss}

    # Services that die under load.

    def kill(self):
        for kind in self.kinds if "http1" in self.options.protocols else ():
            for how, again in kind.retries.items():
                self.say(f"{self.options.kills} kills of a service at {OPEN_RATE}/s: {kind.name}, {how}")
                try:
                    outcome = self.kill_one(kind, "http1", again)
                except RuntimeError as error:
                    self.note(f"kill {kind.name}: {error}")
                    outcome = {"failed": str(error)}
                ways = self.results["kill"].setdefault("http1", {}).setdefault(kind.name, {})
                ways[how] = {"again": again, **outcome}

    def kill_one(self, kind, protocol, again):
        """Three services; one after the other is killed and comes back. A kill counts as struck when the service had
        worked since its start: one that hits a service to which nothing is sent proves nothing."""
        services = [self.echo(protocol, fixed=True) for _ in range(KILL_SERVICES)]
        proxy = self.proxy(kind, [service.address for service in services], protocol, again=again)
        if not proxy:
            self.reaper.drop(*services)
            return {"failed": "did not start"}
        kills = self.options.kills
        idle = [cpu_ns(service.process.pid) for service in services]
        how = ["--connections", OPEN_CONNECTIONS, "--rate", OPEN_RATE, "--seconds", kills * KILL_EVERY + 1.0]
        load = self.loading(protocol, proxy.target, "open", *how)
        time.sleep(1.0)
        struck = 0
        for turn in range(kills):
            began, place = time.monotonic(), turn % KILL_SERVICES
            struck += cpu_ns(services[place].process.pid) - idle[place] > WORKED_NS
            services[place].kill()
            time.sleep(KILL_AWAY)
            services[place].start()
            idle[place] = cpu_ns(services[place].process.pid)
            time.sleep(max(0.0, began + KILL_EVERY - time.monotonic()))
        result = load.report()
        self.reaper.drop(load, proxy, *services)
        if "failed" in result:
            self.note(f"kill {kind.name}: {result}")
            return result
        keys = ("calls", "errors", "wrong", "lost", "closed", "p50_us", "p99_us", "p999_us")
        return {**{key: result[key] for key in keys}, "kills": kills, "struck": struck}

    def run(self):
        self.began = time.monotonic()
        for note in self.notes:
            self.say(note)
        for part in self.options.parts:
            getattr(self, part)()
        summary = report.summarize(self.results)
        return {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": report.machine(),
            "versions": {k.name: k.version_of(self.binaries[k.name]) for k in self.kinds},
            "options": {k: v for k, v in vars(self.options).items() if k not in ("outrigger", "envoy", "tools", "json")},
            "seconds": round(time.monotonic() - self.began, 1),
            "notes": self.notes + report.disturbances(self.results["matrix"]),
            **summary,
            "budgets": report.budgets(summary),
            "raw": self.results,
        }


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--quick", action="store_true", help="one short round of each, about a minute and a half")
    parser.add_argument("--rounds", type=int, help="rounds of the matrix (3)")
    parser.add_argument("--seconds", type=float, help="counted seconds of one measurement (1.5)")
    parser.add_argument("--only", default="", help="protocols, shapes, proxies and parts, with commas between")
    parser.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument("--nice", type=int, default=0, help="priority of everything measured; negative needs root")
    parser.add_argument("--outrigger", default=str(target / "release/outrigger"))
    parser.add_argument("--envoy", default=str(ROOT / "target/bench/envoy"))
    parser.add_argument("--tools", default=str(target / "release"), help="where load and echo are")
    parser.add_argument("--json", default=str(ROOT / "benches/results/latest.json"))
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.7 if options.quick else 1.5)
    options.warmup = 0.15 if options.quick else 0.25
    options.idle = 500 if options.quick else 2000
    options.stream_mib = 128 if options.quick else 1024
    options.starts = 3 if options.quick else 10
    options.reloads = 3 if options.quick else 10
    options.kills = 2 if options.quick else 10
    words = [word for word in options.only.split(",") if word]
    names = {kind.name for kind in KINDS}
    unknown = set(words) - {*PROTOCOLS, *SHAPES, *PARTS, *names}
    if unknown:
        parser.error(f"--only knows {', '.join([*PROTOCOLS, *SHAPES, *PARTS, *sorted(names)])}; not {', '.join(unknown)}")
    pick = lambda all_of: [name for name in all_of if name in words] or list(all_of)
    options.protocols, options.shapes, options.parts = pick(PROTOCOLS), pick(SHAPES), pick(PARTS)
    options.proxies = sorted(names & set(words))
    return options


def stop(*_):
    raise SystemExit(130)


def main():
    options = parse()
    for tool in ("load", "echo"):
        if not (Path(options.tools) / tool).exists():
            sys.exit(f"{tool} is not in {options.tools}: cargo build --release -p outrigger-load")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, stop)
    if options.nice:
        PRIORITY.extend(["nice", "-n", str(options.nice)])
    bench = Bench(options)
    try:
        outcome = bench.run()
    finally:
        bench.close()
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(outcome, indent=1) + "\n")
    print(report.tables(outcome))
    print(f"\nevery number: {os.path.relpath(options.json)}")
    missed = [budget for budget in outcome["budgets"] if not budget["kept"] and not budget["aim"]]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
