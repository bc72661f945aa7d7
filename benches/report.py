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
BUDGETS = {
    # CPU of a call against the byte relay's of the same round.
    "cpu": {"bolt 8x8": 1.0, "bolt 64x1": 0.7, "dubbo 8x8": 1.0, "dubbo 64x1": 0.7},
    # Added latency against the best other proxy of the same run.
    "latency": 1.1,
    "rss_mib": 12.0,
    "idle_kib": 2.0,
    "routes": 1.1,
    "start_ms": 7.0,
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


def over(above, below):
    return above / below if above is not None and below else None


def minus(left, right):
    return left - right if left is not None and right is not None else None


def quiet(rounds, relay, direct):
    """Rounds in which nothing else kept the machine busy; all of them when there is none such."""
    together = [group for group in zip(rounds, relay or rounds, direct or rounds)]
    still = [i for i, group in enumerate(together) if all(r.get("foreign_cores", 0) < FOREIGN_MAX for r in group)]
    return still or list(range(len(rounds)))


def cell(rounds, relay, direct):
    """One protocol, shape and proxy: medians over the rounds, ratios within each."""
    errors, failed = sum(r.get("errors") or 0 for r in rounds), sum(1 for r in rounds if r.get("failed"))
    chosen = quiet(rounds, relay, direct)
    rounds, relay, direct = ([of[i] for i in chosen if i < len(of)] for of in (rounds, relay, direct))
    value = lambda of, key: [r.get(key) if not r.get("failed") else None for r in of]
    out = {key: median(value(rounds, key)) for key in ("cpu_us", "rps", "p50_us", "p99_us")}
    for key, name in (("cpu_us", "cpu_ratio"), ("rps", "rps_ratio")):
        out[name] = median(over(a, b) for a, b in zip(value(rounds, key), value(relay, key)))
    for key in ("p50_us", "p99_us"):
        out[f"added_{key}"] = median(minus(a, b) for a, b in zip(value(rounds, key), value(direct, key)))
    out.update(errors=errors, failed=failed, rounds=len(rounds), foreign_cores=median(value(rounds, "foreign_cores")))
    return out


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
            cells = {name: cell(rounds, row.get(RELAY, []), row.get("direct", [])) for name, rounds in row.items()}
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
    return {"matrix": matrix, "memory": memory, **{k: results[k] for k in ("idle", "routes", "start", "reload")}}


def budgets(summary, name="outrigger"):
    """What the proxy under test must keep; only what was measured is judged."""
    out = []

    def judge(what, value, limit):
        kept = value is not None and value <= limit
        out.append({"what": what, "value": value, "limit": limit, "kept": kept})

    for protocol, shapes in summary["matrix"].items():
        for shape, row in shapes.items():
            if name not in row:
                continue
            own = row[name]
            judge(f"{protocol} {shape}: failed calls", own["errors"] + own["failed"], 0)
            limit = BUDGETS["cpu"].get(f"{protocol} {shape}")
            if limit:
                judge(f"{protocol} {shape}: CPU a call × the relay", own["cpu_ratio"], limit)
            for key in ("added_p50_us", "added_p99_us") if shape == "open" else ():
                others = [c[key] for n, c in row.items() if n not in (name, "direct") and c[key] is not None]
                if others:
                    judge(f"{protocol} open: {key} (best other × {BUDGETS['latency']})", own[key], min(others) * BUDGETS["latency"])
    for protocol, proxies in summary["memory"].items():
        if name in proxies:
            judge(f"{protocol}: RSS after load, MiB", proxies[name]["rss_mib"], BUDGETS["rss_mib"])
    for protocol, proxies in summary["idle"].items():
        for state, entry in proxies.get(name, {}).items():
            judge(f"{protocol}: KiB an idle connection, {state}", entry.get("kib_each"), BUDGETS["idle_kib"])
            judge(f"{protocol}: idle connections closed, {state}", entry.get("closed"), 0)
    for protocol, proxies in summary["routes"].items():
        if name in proxies:
            judge(f"{protocol}: CPU with 10,000 routes × 10", proxies[name]["ratio"], BUDGETS["routes"])
    if name in summary["start"]:
        judge("start to first answer, ms", summary["start"][name]["ms"], BUDGETS["start_ms"])
    for protocol, proxies in summary["reload"].items():
        own = proxies.get(name)
        if own:
            judge(f"{protocol} reloads: lost or wrong calls", own.get("errors"), 0)
            judge(f"{protocol} reloads: connections closed", own.get("closed"), 0)
            judge(f"{protocol} reloads: processes", own.get("processes"), 1)
            judge(f"{protocol} reloads: not followed by open connections", minus(own.get("reloads"), own.get("followed")), 0)
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
    head += [part for shape in closed for part in (shape, "× relay", "k/s")]
    head += ["open +p50 µs", "+p99 µs", "CPU µs"] if "open" in shapes else []
    for name in names:
        row, bad = [], 0
        for shape in closed:
            c = shapes[shape].get(name, {})
            bad += c.get("errors", 0) + c.get("failed", 0)
            row += [number(c.get("cpu_us")), number(c.get("cpu_ratio")), number(over(c.get("rps"), 1000), 1)]
        if "open" in shapes:
            c = shapes["open"].get(name, {})
            bad += c.get("errors", 0) + c.get("failed", 0)
            if name == "direct":
                row += [f"({number(c.get('p50_us'), 0)})", f"({number(c.get('p99_us'), 0)})", "–"]
            else:
                row += [number(c.get("added_p50_us"), 0), number(c.get("added_p99_us"), 0), number(c.get("cpu_us"), 1)]
        rows.append([name + (f"  !! {bad} failed" if bad else ""), *row])
    return table(head, rows)


def tables(outcome):
    parts = [matrix_table(protocol, shapes) for protocol, shapes in outcome["matrix"].items()]
    if outcome["memory"]:
        rows = [
            [f"{name}, {protocol}", number(sizes["rss_mib"], 1), number(sizes["pss_mib"], 1)]
            for protocol, proxies in outcome["memory"].items()
            for name, sizes in proxies.items()
        ]
        parts.append(table(["memory after load, all processes", "RSS MiB", "PSS MiB"], rows))
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
    if outcome["budgets"]:
        rows = [[b["what"], number(b["value"]), number(b["limit"]), "kept" if b["kept"] else "MISSED"] for b in outcome["budgets"]]
        parts.append(table(["budget of outrigger", "measured", "limit", ""], rows))
    parts += ["notes:\n" + "\n".join(f"- {note}" for note in outcome["notes"])] if outcome["notes"] else []
    return "\n\n".join(parts)
