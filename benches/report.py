"""Medians, ratios, budgets and tables out of what `run.py` measured.

Must never hide a failure: a cell that failed in some round says so in the table, and a budget whose number is missing
is not kept. Ratios are taken against HAProxy (the byte relay) within each round.
"""

import os
import statistics
from pathlib import Path

RELAY = "haproxy"
# More foreign work than this and a round is set aside.
FOREIGN_MAX = 0.15
# Proxies that do what Outrigger does: CPU is compared with the better of them in each round.
PEERS = {"http1": ("nginx-http", "haproxy-http"), "grpc": ("haproxy-http",)}
BUDGETS = {
    # CPU of a call against the byte relay's of the same round.
    "cpu": {"bolt 8x8": 1.0, "bolt 64x1": 0.7, "dubbo 8x8": 1.0, "dubbo 64x1": 0.7},
    # The same where every request is read, against the better of PEERS; the relay is what is aimed at.
    "cpu_best": {"http1 32x1": 1.0, "grpc 8x8": 1.0, "grpc 64x1": 1.0},
    "cpu_aim": {"http1 32x1": 1.0, "grpc 8x8": 1.0, "grpc 64x1": 1.0},
    # Added latency against the best other proxy of the same run.
    "latency": 1.1,
    "rss_mib": 12.0,
    "idle_kib": 2.0,
    "routes": 1.1,
    # All policies at once against none, and 10,000 endpoints against 10: CPU of a call within each round.
    "policies": 1.1,
    "endpoints": 1.2,
    # A snapshot of 10,000 routes and as many endpoints, however they are balanced.
    "snapshot_ms": 50.0,
    "start_ms": 7.0,
    # Throughput of one stream against HAProxy's as an HTTP proxy: at least.
    "stream": 0.8,
}


def machine():
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": os.uname().release,
        # Above a few hundredths, something else was running and the numbers are worth less.
        "load_before": os.getloadavg()[0],
    }


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def low(values):
    """The lower quartile, of enough values. What else a machine does can only add to a latency: the quieter rounds tell
    more of the proxy than the middle ones, and a quartile is not at the mercy of one lucky round as the least would be."""
    values = [value for value in values if value is not None]
    return statistics.quantiles(values, n=4)[0] if len(values) >= 4 else median(values)


def over(above, below):
    return above / below if above is not None and below else None


def minus(left, right):
    return left - right if left is not None and right is not None else None


def quiet(rounds, *beside):
    """Rounds in which nothing else kept the machine busy; all of them when there is none such."""
    together = list(zip(rounds, *(others or rounds for others in beside)))
    still = [i for i, group in enumerate(together) if all(r.get("foreign_cores", 0) < FOREIGN_MAX for r in group)]
    return still or list(range(len(rounds)))


def cell(rounds, relay, direct, peers):
    """One protocol, shape and proxy: medians over the rounds, ratios within each. Added latencies are between the lower
    quartiles of all rounds."""
    added = {f"added_{key}": minus(*(low(r.get(key) for r in of if not r.get("failed")) for of in (rounds, direct)))
             for key in ("p50_us", "p99_us")}
    errors, failed = sum(r.get("errors") or 0 for r in rounds), sum(1 for r in rounds if r.get("failed"))
    chosen = quiet(rounds, relay, direct, *peers)
    rounds, relay, direct, *peers = ([of[i] for i in chosen if i < len(of)] for of in (rounds, relay, direct, *peers))
    value = lambda of, key: [r.get(key) if not r.get("failed") else None for r in of]
    out = {key: median(value(rounds, key)) for key in ("cpu_us", "rps", "p50_us", "p99_us")}
    for key, name in (("cpu_us", "cpu_ratio"), ("rps", "rps_ratio")):
        out[name] = median(over(a, b) for a, b in zip(value(rounds, key), value(relay, key)))
    if peers:
        measured = [[cpu for cpu in turn if cpu] for turn in zip(*(value(of, "cpu_us") for of in peers))]
        best = [min(turn) if len(turn) == len(peers) else None for turn in measured]
        out["cpu_best_ratio"] = median(over(a, b) for a, b in zip(value(rounds, "cpu_us"), best))
    out.update(added, errors=errors, failed=failed, rounds=len(rounds), foreign_cores=median(value(rounds, "foreign_cores")))
    return out


def stream_cells(proxies):
    """The long stream, by proxy: medians over the rounds, the ratio to the peer's throughput within each."""
    direct, peer = proxies.get("direct", []), proxies.get(PEERS["grpc"][0], [])
    out = {}
    for name, rounds in proxies.items():
        failed = [r["failed"] for r in rounds if "failed" in r]
        chosen = quiet(rounds, direct, peer)
        values = lambda of, key: [of[i].get(key) for i in chosen if i < len(of)]
        cells = {key: median(values(rounds, key)) for key in ("mb_per_s", "cpu_s_per_gib", "rss_growth_kib")}
        pairs = zip(values(rounds, "mb_per_s"), values(peer, "mb_per_s"))
        out[name] = {**cells, "ratio": median(over(a, b) for a, b in pairs), "failed": len(failed)}
    return out


def pair(rounds, above, below, *beside):
    """Confs of one proxy beside each other: medians, and the ratio of `above` to `below` within each round."""
    chosen = [rounds[i] for i in quiet(rounds)]
    cpu = {name: median(r[name] for r in chosen) for name in (above, below, *beside)}
    failed = sum(1 for r in rounds if r[above] is None or r[below] is None)
    ratio = median(over(r[above], r[below]) for r in chosen)
    more = median(minus(r[above], r[below]) for r in chosen)
    undisturbed = sum(1 for r in rounds if r["foreign_cores"] < FOREIGN_MAX)
    spread = [over(r[above], r[below]) for r in rounds if r[above] and r[below]]
    return {
        **{"ratio": ratio, "ratio_min": min(spread, default=None), "ratio_max": max(spread, default=None)},
        **{"more_us": more, "cpu_us": cpu, "failed": failed, "undisturbed": undisturbed, "rounds": rounds},
    }


def disturbances(matrix):
    """A line on how quiet the machine was."""
    every = [r for shapes in matrix.values() for row in shapes.values() for rounds in row.values() for r in rounds]
    loud = sum(1 for r in every if r.get("foreign_cores", 0) >= FOREIGN_MAX)
    if not loud:
        return []
    return [f"{loud} of {len(every)} measurements ran while something else used more than {FOREIGN_MAX} cores; "
            "such rounds count only where there is no other"]


def summarize(results):
    matrix = {}
    for protocol, shapes in results["matrix"].items():
        for shape, row in shapes.items():
            beside = row.get(RELAY, []), row.get("direct", []), [row.get(peer, []) for peer in PEERS.get(protocol, ())]
            cells = {name: cell(rounds, *beside) for name, rounds in row.items()}
            matrix.setdefault(protocol, {})[shape] = cells
    memory = {
        protocol: {
            name: {key: median(r[key] / 1024 for r in rounds) for key in ("rss_kib", "pss_kib")}
            for name, rounds in proxies.items()
        }
        for protocol, proxies in results["memory"].items()
    }
    for proxies in memory.values():
        for name, sizes in proxies.items():
            proxies[name] = {"rss_mib": sizes["rss_kib"], "pss_mib": sizes["pss_kib"]}
    streams = {protocol: stream_cells(proxies) for protocol, proxies in results["stream"].items()}
    others = ("idle", "routes", "policies", "endpoints", "many", "start", "reload", "kill", "absent")
    return {"matrix": matrix, "memory": memory, "stream": streams, **{k: results[k] for k in others}}


def budgets(summary, name="outrigger"):
    """What the proxy under test must keep; only what was measured is judged."""
    out = []

    def judge(what, value, limit, aim=False, least=False):
        kept = value is not None and (value >= limit if least else value <= limit)
        out.append({"what": what, "value": value, "limit": limit, "kept": kept, "aim": aim})

    if name in summary["absent"]:
        judge("starts that failed", summary["absent"][name], 0)
    for protocol, shapes in summary["matrix"].items():
        for shape, row in shapes.items():
            if name not in row:
                continue
            own = row[name]
            judge(f"{protocol} {shape}: failed calls", own["errors"] + own["failed"], 0)
            limits = {key: BUDGETS[key].get(f"{protocol} {shape}") for key in ("cpu", "cpu_best", "cpu_aim")}
            if limits["cpu"]:
                judge(f"{protocol} {shape}: CPU a call × the relay", own["cpu_ratio"], limits["cpu"])
            if limits["cpu_best"]:
                best = ("the better of " if len(PEERS[protocol]) > 1 else "") + " and ".join(PEERS[protocol])
                what = f"{protocol} {shape}: CPU a call × {best}"
                judge(what, own["cpu_best_ratio"], limits["cpu_best"])
            if limits["cpu_aim"]:
                judge(f"{protocol} {shape}: CPU a call × the relay", own["cpu_ratio"], limits["cpu_aim"], aim=True)
            for key in ("added_p50_us", "added_p99_us") if shape == "open" else ():
                others = [c[key] for n, c in row.items() if n not in (name, "direct") and c[key] is not None]
                if others:
                    judge(f"{protocol} open: {key} (best other × {BUDGETS['latency']})", own[key], min(others) * BUDGETS["latency"])
    for protocol, proxies in summary["memory"].items():
        if name in proxies:
            judge(f"{protocol}: RSS after load, MiB", proxies[name]["rss_mib"], BUDGETS["rss_mib"])
    for protocol, proxies in summary["stream"].items():
        own = proxies.get(name)
        if own:
            judge(f"{protocol} stream: failed", own["failed"], 0)
            what = f"{protocol} stream: throughput × {PEERS[protocol][0]}, at least"
            judge(what, own["ratio"], BUDGETS["stream"], least=True)
    for protocol, proxies in summary["idle"].items():
        for state, entry in proxies.get(name, {}).items():
            judge(f"{protocol}: KiB an idle connection, {state}", entry.get("kib_each"), BUDGETS["idle_kib"])
            judge(f"{protocol}: idle connections closed, {state}", entry.get("closed"), 0)
    for protocol, proxies in summary["routes"].items():
        if name in proxies:
            judge(f"{protocol}: CPU with 10,000 routes × 10", proxies[name]["ratio"], BUDGETS["routes"])
    for part, what in (("policies", "all policies × none"), ("endpoints", "10,000 endpoints × 10")):
        for protocol, shapes in summary[part].items():
            for shape, own in shapes.items():
                judge(f"{protocol} {shape}: failed measurements, {part}", own["failed"], 0)
                judge(f"{protocol} {shape}: CPU a call, {what}", own["ratio"], BUDGETS[part])
    if summary["many"]:
        for balance, built in summary["many"].get("snapshot_ms", {}).items():
            judge(f"10,000 routes and endpoints, {balance}: a snapshot, ms", built, BUDGETS["snapshot_ms"])
    for started, own in summary["start"].items():
        if started.split(",")[0] == name:
            judge(f"start to first answer{started.removeprefix(name)}, ms", own["ms"], BUDGETS["start_ms"])
    for protocol, proxies in summary["reload"].items():
        own = proxies.get(name)
        if own:
            judge(f"{protocol} reloads: lost or wrong calls", own.get("errors"), 0)
            judge(f"{protocol} reloads: connections closed", own.get("closed"), 0)
            judge(f"{protocol} reloads: processes", own.get("processes"), 1)
            judge(f"{protocol} reloads: not followed by open connections", minus(own.get("reloads"), own.get("followed")), 0)
    for protocol, proxies in summary["kill"].items():
        for how, own in proxies.get(name, {}).items():
            # What may not be sent again is lost with its service.
            if own["again"]:
                judge(f"{protocol} kills, {how}: failed calls", own.get("errors"), 0)
                judge(f"{protocol} kills, {how}: kills that struck nothing", minus(own.get("kills"), own.get("struck")), 0)
    return out


def number(value, digits=2, unit=""):
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    line = lambda row: "  ".join(str(v).ljust(w) if i == 0 else str(v).rjust(w) for i, (v, w) in enumerate(zip(row, widths)))
    return "\n".join([line(head), line(["-" * w for w in widths]), *map(line, rows)])


def matrix_table(protocol, shapes):
    names = list(dict.fromkeys(name for row in shapes.values() for name in row))
    names.sort(key=lambda name: (name != "direct", name == "outrigger"))
    head, rows = [f"{protocol}: CPU µs a call (× relay), thousand calls/s"], []
    closed = [shape for shape in shapes if shape != "open"]
    best = protocol in PEERS
    head += [part for shape in closed for part in (shape, "× relay", *(["× best"] if best else []), "k/s")]
    head += ["open +p50 µs", "+p99 µs", "CPU µs"] if "open" in shapes else []
    for name in names:
        row, bad = [], 0
        for shape in closed:
            c = shapes[shape].get(name, {})
            bad += c.get("errors", 0) + c.get("failed", 0)
            ratios = [number(c.get(key)) for key in ("cpu_ratio", *(["cpu_best_ratio"] if best else []))]
            row += [number(c.get("cpu_us")), *ratios, number(over(c.get("rps"), 1000), 1)]
        if "open" in shapes:
            c = shapes["open"].get(name, {})
            bad += c.get("errors", 0) + c.get("failed", 0)
            if name == "direct":
                row += [f"({number(c.get('p50_us'), 0)})", f"({number(c.get('p99_us'), 0)})", "–"]
            else:
                row += [number(c.get("added_p50_us"), 0), number(c.get("added_p99_us"), 0), number(c.get("cpu_us"), 1)]
        rows.append([name + (f"  !! {bad} failed" if bad else ""), *row])
    return table(head, rows)


def pair_tables(outcome):
    """Outrigger beside itself."""
    parts = []
    for part, head in (
        ("policies", ["CPU µs a call, 20 endpoints", "no policies", "all policies", "×", "least", "most", "more", "quiet rounds", "none, 1 endpoint"]),
        ("endpoints", ["CPU µs a call", "10 endpoints", "10,000", "×", "least", "most", "more", "quiet rounds"]),
    ):
        rows = []
        for protocol, shapes in outcome[part].items():
            for shape, e in shapes.items():
                # Named in the order of pair(): what is judged, what it is compared with, what is beside them.
                above, below, *rest = e["cpu_us"].values()
                bad = f"  !! {e['failed']} failed" if e["failed"] else ""
                cells = [below, above, *(e[key] for key in ("ratio", "ratio_min", "ratio_max", "more_us"))]
                quiet_of = f"{e['undisturbed']} of {len(e['rounds'])}"
                rows.append([f"{protocol} {shape}{bad}", *map(number, cells), quiet_of, *map(number, rest)])
        parts += [table(head, rows)] if rows else []
    many = outcome["many"]
    if "decide_ns" in many:
        few, most = many["decide_ns"]["10"], many["decide_ns"]["10000"]
        rows = [
            [name, number(ms, 1), number(many["take_up_ms"][name], 1), number(few[name], 0), number(most[name], 0)]
            for name, ms in many["snapshot_ms"].items()
        ]
        head = ["10,000 routes and 10,000 endpoints", "built in ms", "taken up in ms", "a decision among 10, ns", "10,000"]
        parts.append(table(head, rows))
        rows = [[name, number(ns, 0)] for name, ns in many["policies_ns"].items()]
        parts.append(table(["a decision among 20 endpoints", "ns"], rows))
    return parts


def tables(outcome):
    parts = [matrix_table(protocol, shapes) for protocol, shapes in outcome["matrix"].items()]
    if outcome["memory"]:
        rows = [
            [f"{name}, {protocol}", number(sizes["rss_mib"], 1), number(sizes["pss_mib"], 1)]
            for protocol, proxies in outcome["memory"].items()
            for name, sizes in proxies.items()
        ]
        parts.append(table(["memory after load, all processes", "RSS MiB", "PSS MiB"], rows))
    if outcome["stream"]:
        rows = [
            [f"{name}, {protocol}" + (f"  !! {e['failed']} failed" if e["failed"] else "")]
            + [number(e["mb_per_s"], 0), number(e["ratio"]), number(e["cpu_s_per_gib"])]
            + [number(over(e["rss_growth_kib"], 1024) if name != "direct" else None, 1)]
            for protocol, proxies in outcome["stream"].items()
            for name, e in proxies.items()
        ]
        head = ["one answer of " + f"{outcome['options']['stream_mib']:,} MiB", "MB/s", "× " + PEERS["grpc"][0]]
        parts.append(table([*head, "CPU s/GiB", "RSS growth MiB"], rows))
    if outcome["idle"]:
        rows = [
            [f"{name}, {protocol}", *(number(entry[s].get("kib_each")) for s in ("unused", "after_one_call"))]
            + [sum(e.get("closed", 0) for e in entry.values())]
            for protocol, proxies in outcome["idle"].items()
            for name, entry in proxies.items()
        ]
        parts.append(table(["KiB an idle connection", "unused", "after one call", "closed"], rows))
    if outcome["routes"]:
        rows = [
            [f"{name}, {protocol}", number(e["ratio"]), number(over(e["rss_many_kib"], 1024), 1)]
            for protocol, proxies in outcome["routes"].items()
            for name, e in proxies.items()
        ]
        parts.append(table(["CPU with 10,000 routes", "× 10 routes", "RSS MiB"], rows))
    parts += pair_tables(outcome)
    if outcome["start"]:
        rows = [[name, number(e["ms"], 1)] for name, e in outcome["start"].items()]
        parts.append(table(["start to first answer", "ms"], rows))
    if outcome["reload"]:
        keys = ("lost", "wrong", "closed", "followed", "processes")
        rows = [
            [f"{name}, {protocol}", *(e.get(k, "failed") for k in keys), number(over(e.get("rss_kib"), 1024), 1)]
            for protocol, proxies in outcome["reload"].items()
            for name, e in proxies.items()
        ]
        parts.append(table(["reloads at 2,000/s", *keys, "RSS MiB"], rows))
    if outcome["kill"]:
        keys = ("calls", "errors", "closed", "struck")
        rows = [
            [f"{name}, {how}", *(e.get(k, "failed") for k in keys)]
            + [number(over(e.get(k), 1000), 1) for k in ("p50_us", "p99_us", "p999_us")]
            for proxies in outcome["kill"].values()
            for name, ways in proxies.items()
            for how, e in ways.items()
        ]
        head = ["one of three services killed every 2 s, at 2,000/s", "good", "failed", "closed", "kills under load"]
        parts.append(table([*head, "p50 ms", "p99 ms", "p99.9 ms"], rows))
    if outcome["budgets"]:
        verdict = lambda b: "kept" if b["kept"] else "aimed at" if b["aim"] else "MISSED"
        rows = [[b["what"], number(b["value"]), number(b["limit"]), verdict(b)] for b in outcome["budgets"]]
        parts.append(table(["budget of outrigger", "measured", "limit", ""], rows))
    parts += ["notes:\n" + "\n".join(f"- {note}" for note in outcome["notes"])] if outcome["notes"] else []
    return "\n\n".join(parts)
