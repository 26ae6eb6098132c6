"""Results as a page to read (RESULTS.md), as data (results.json, and each part's in raw/) and as a plot."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import growth, machine
from bench.parts import bare, compiled, latency, unpinned
from bench.record import Cost, Figure, Results, as_json
from bench.table import ROWS, Aim, Met, Row
from bench.text import shown, table

RESULTS_MD: Final = "RESULTS.md"
RESULTS_JSON: Final = "results.json"
GROWTH_SVG: Final = "growth.svg"

LIMITED = 0.9
"""Of its cores: above, the load generator (or Redis beside it) may be what limits a rate."""

ABOUT = """\
# Results

<!-- Written by `make bench`. -->

Measured from outside: the service as `adsum serve` starts it (one process pinned to a core, or one a worker), a real
redis-server on loopback, and a load generator in Go (`bench/load`) on the other cores. CPU is user and system time of
the processes, from /proc. `≈`: measured over too short a time to be compared. The original is OpenIM's service, and
beside it Centrifugo; their figures are quoted from another measurement, on a machine with 2 cores. *Times as good* is
the median against the original's best figure.
"""

NOTES = """\
How the rows are to be read:

- This machine's speed changes from second to second, and CPU time a unit of work with it, since what it calls cores are
  shares of real ones. So rates, times and CPU are measured in several short windows, minutes apart, with other work
  between them. *Adsum* is the median of the windows, and so is every other figure here; *best* is the window that was
  disturbed least, in which the software shows what it can do. *Met* says `yes` if the median is within the aim, and
  `at best` if only the best window is.
- Latency is from the moment the user's handshake is sent, or their socket closed, over all pairs of event and watcher.
- Request 2004 says whether the client's app is in the background. The service notes it and answers with success and no
  data; nothing is written to the store. One request a connection is in flight.
- With one call in flight, and in walks over a listing, generator, service and Redis never work at once. They share a
  core then: waking another core for each turn can cost a virtual machine more than the turn (see above), and says
  nothing of the service.
- Users are set in a store in which 100,000 others are online and stay so; each write is a change. The load generator
  speaks HTTP/2 and gRPC itself, with no more in a call than gRPC needs: so it takes 6 to 8 µs a call, and is not what
  is measured. It sends no pings; clients that measure bandwidth by pings cost the service some more.
- *Hot*: the same 2,000 users asked for again and again. *Cold*: users asked for once each, in random order among a
  million who are online (100,000 in a quick run).
- Connections come with up to 512 handshakes under way. Memory is the growth of the process's resident memory.
- Bytes an online user are those of 100,000 users on a gateway, written straight to a Redis (part `redis`); users set
  by calls, who have a deadline each, are under *Growth*.
"""

LATENCIES: Final = {
    "all": "all",
    "connects": "connect",
    "connects, from the end of the handshake": "handshake_done",
    "disconnects": "disconnect",
    "to the last watcher": "last",
}

WORKERS: Final = (
    ("connections accepted", "crowd.accept"),
    ("connects, until all is written", "crowd.connect"),
    ("2004 requests, gob", "requests"),
    ("setUserOnlineStatus, users", "set"),
    ("getUserStatus of 1 user, hot, calls", "get"),
)

ENGINE_ROWS: Final = (
    ("users written a second, batches of 100", "written.per_s", "more"),
    ("Redis CPU a written user, µs", "written.redis_us", "less"),
    ("of it in commands and scripts, µs", "written.script_us", "less"),
    ("1,000 users queried, ms", "query_ms", "less"),
    ("listing of 100,000 online users, µs a user", "listing_us", "less"),
    ("bytes an online user", "bytes", "less"),
)


def now() -> str:
    """The time of day, for people."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def write(results: Results, folder: Path) -> None:
    """Write all files into a folder."""
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for old in raw.glob("*.json"):
        old.unlink()
    (folder / RESULTS_JSON).write_bytes(as_json(results))
    for name, part in results.parts.items():
        (raw / f"{name}.json").write_bytes(as_json(part))
    (folder / GROWTH_SVG).write_text(growth.plot(results), encoding="utf-8")
    (folder / RESULTS_MD).write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    """The page."""
    sections = [ABOUT, _machine(results), _main_table(results), NOTES, _misses(results), _limits(results)]
    sections += [_latency(results), _compiled(results), _unpinned(results), _workers(results), _engine(results)]
    sections += [growth.section(results), _costs(results), _failures(results)]
    return "\n".join(section for section in sections if section)


def _machine(results: Results) -> str:
    facts = "".join(f"- {name}: {value}\n" for name, value in results.machine.items())
    busy = " — **figures are doubtful**" if results.others_share > machine.MOST_OTHERS else ""
    references = [reference_us for part in results.parts.values() for reference_us in part.references]
    spread = f"{min(references):.2f} to {max(references):.2f}" if references else "none"
    return (
        f"{facts}- when: {results.when}, load average at the start {results.load_average:.2f}\n"
        f"- other work on the machine meanwhile: up to {results.others_share:.0%} of it (a part, a round){busy}\n"
        f"- the reference workload (`bench/reference.py`): {spread} µs a step\n"
        + ("- a quick run: one round, and with fewer sizes\n" if results.quick else "")
    )


def _main_table(results: Results) -> str:
    head = ["work", "the original", "aim", "Adsum", "best", "times as good", "embedded", "CPU and memory", "met"]
    return table(head, [_row(results, row) for row in _rows(results)])


def _rows(results: Results) -> list[Row]:
    """Those of the parts that were run."""
    return [row for row in ROWS if row.aims[0].figure.split(".")[0] in results.parts]


def _row(results: Results, row: Row) -> list[str]:
    medians = [aim.median(results) for aim in row.aims]
    better = [aim.times_better(value) for aim, value in zip(row.aims, medians, strict=True) if value is not None]
    return [
        row.work,
        row.original,
        _joined(row.aims, [f"{'≥' if aim.least else '≤'} {shown(aim.bound)}" for aim in row.aims]),
        _joined(row.aims, [_shown_figure(results, aim, aim.median(results)) for aim in row.aims]),
        _joined(row.aims, ["-" if (best := aim.best(results)) is None else shown(best) for aim in row.aims]),
        " · ".join(shown(ratio) for ratio in better if ratio) or "-",
        _embedded(results, row),
        _cost(results, row.cost),
        row.met(results),
    ]


def _joined(aims: Sequence[Aim], texts: list[str]) -> str:
    """Values with their units, each with its own if they differ."""
    if len({aim.unit for aim in aims}) == 1:
        return f"{' · '.join(texts)} {aims[0].unit}"
    return " · ".join(f"{text} {aim.unit}" for aim, text in zip(aims, texts, strict=True))


def _shown_figure(results: Results, aim: Aim, value: float | None) -> str:
    if value is None:
        return f"not measured: {results.why_missing(aim.figure)}"
    figure: Figure = results.figures[aim.figure]
    # Counts are exact however short the time was.
    exact = figure.unit in ("users", "frames")
    return f"{'≈' if figure.rough and not exact else ''}{shown(value)}"


def _embedded(results: Results, row: Row) -> str:
    others = [other for aim in row.aims if (other := aim.embedded()) and other.median(results) is not None]
    return (
        _joined(others, [_shown_figure(results, other, other.median(results)) for other in others]) if others else "-"
    )


def _cost(results: Results, name: str) -> str:
    cost = results.costs.get(name)
    if cost is None:
        return "-"
    return f"{_cpu(cost)} µs a {cost.unit}, {cost.service_bytes / 1e6:.0f} MB"


def _cpu(cost: Cost) -> str:
    return f"{shown(cost.service_us.median)} + {shown(cost.redis_us.median)}"


def _misses(results: Results) -> str:
    missed = [row for row in _rows(results) if row.met(results) is not Met.YES]
    lines = "".join(f"- {row.work}\n" + (f"  ({row.profile})\n" if row.profile else "") for row in missed)
    return "## Aims not met, and where the time goes\n\n" + (lines or "None.\n")


def _limits(results: Results) -> str:
    rows = []
    for what, (name, name_of_ours) in bare.LIMITS.items():
        alone, ours = (results.figures.get(figure) for figure in (f"bare.{name}", name_of_ours))
        if alone and ours:
            rows.append([what, *map(shown, (alone.median, ours.median, ours.median / alone.median))])
    if not rows:
        return ""
    return (
        "## How far from the limit\n\nWhat the system's calls, and Redis's commands, take alone: as many bytes read "
        "and written by a loop that looks at none of them, and the commands outright instead of in a script that works "
        f"out what they shall say (`bench/parts/bare.py`).\n\n{table(['CPU µs', 'alone', 'Adsum', 'times'], rows)}"
    )


def _latency(results: Results) -> str:
    rows = []
    for engine, label in growth.ENGINES.items():
        for watchers in latency.WATCHERS:
            name = f"latency.{engine}.{watchers}"
            found = [
                [results.figures.get(f"{name}.{what}_{quantity}_ms") for quantity in ("median", "p99")]
                for what in LATENCIES.values()
            ]
            cells = [" · ".join(shown(figure.median) for figure in pair if figure) for pair in found]
            if any(cells):
                rows.append([f"{watchers:,} watchers, {label}", *cells])
    head = ["ms: median · p99", *LATENCIES]
    return f"## From connect or disconnect to receipt\n\n{table(head, rows)}" if rows else ""


def _compiled(results: Results) -> str:
    rows = []
    for name, case in compiled.CASES.items():
        with_it, without = (f"compiled.{build}.{name}" for build in ("compiled", "interpreted"))
        values, cpu = (
            [found.median for one in (with_it, without) if (found := results.figures.get(f"{one}.{quantity}"))]
            for quantity in (case.figure, "service_us")
        )
        if len(values) == len(cpu) == 2:
            rate = case.figure == "per_s"
            unit, gain = ("/s", values[0] / values[1]) if rate else ("ms", values[1] / values[0])
            cells = [f"{shown(value)} {unit}" for value in reversed(values)]
            rows.append([case.work, *cells, shown(gain), *map(shown, reversed(cpu)), shown(cpu[1] / cpu[0])])
    if not rows:
        return ""
    head = ["Redis engine", "interpreted", "compiled", "times as good"]
    head += ["service CPU µs, interpreted", "compiled", "times as good"]
    return (
        "## Without the compiled modules\n\nThe same sources with their hot modules interpreted, and compiled as "
        f"everywhere else on this page; both run at once, and are asked in turns.\n\n{table(head, rows)}"
    )


def _unpinned(results: Results) -> str:
    rows = []
    for name, case in unpinned.CASES.items():
        found = [
            " · ".join(
                shown(figure.median * aim.scale)
                for aim in case.aims
                if (figure := results.figures.get(f"unpinned.{build}.{name}.{aim.figure}"))
            )
            for build in unpinned.BUILDS
        ]
        if any(found):
            aims = " · ".join(f"{'≥' if aim.least else '≤'} {shown(aim.bound)}" for aim in case.aims)
            rows.append([case.work, case.peer, aims, *found])
    if not rows:
        return ""
    head = ["Redis engine", "best peer", "aim", "compiled", "interpreted", "only answering"]
    return (
        "## As a user sees it\n\nNothing is pinned: clients, service and Redis share all cores. Calls are made by "
        "grpc-go with its defaults, watchers speak JSON. The peers' figures were measured so in one run with Adsum on "
        "another machine with 2 cores. *Only answering*: a server on the same kind of loop that knows nothing and "
        "gives the same answers, after a PING to Redis where the service writes (`bench/echo.py`)."
        f"\n\n{table(head, rows)}"
    )


def _workers(results: Results) -> str:
    rows = []
    for what, name in WORKERS:
        one, two = (results.costs.get(f"workers.{count}.{name}") for count in (1, 2))
        if one and two:
            rates = one.per_s.median, two.per_s.median
            rows.append([what, shown(rates[0]), _cpu(one), shown(rates[1]), _cpu(two), shown(rates[1] / rates[0])])
    if not rows:
        return ""
    head = ["Redis engine", "1 worker: a second", "CPU µs", "2 workers: a second", "CPU µs", "rate, two over one"]
    shared = results.costs["workers.2.get"].load_cores if "workers.2.get" in results.costs else 0
    return (
        f"## Two workers\n\nWith two workers the load generator and Redis had {shared} cores, on this machine of "
        f"{results.machine['cores'].split()[0]}: where these are the same ones, a second says little, and CPU time a "
        f"unit of work (service + Redis) more.\n\n{table(head, rows)}"
    )


def _engine(results: Results) -> str:
    rows = []
    for what, name, better in ENGINE_ROWS:
        ours, original = (results.figures.get(f"redis.{whose}.{name}") for whose in ("ours", "original"))
        if ours and original:
            values = original.median, ours.median
            ratio = values[1] / values[0] if better == "more" else values[0] / values[1]
            rows.append([what, shown(values[0]), shown(values[1]), shown(ratio)])
    if not rows:
        return ""
    return (
        "## The Redis engine beside the original's commands\n\nBoth on one Redis in one run, over the same kind of "
        "connection, without the service around them.\n\n"
        + table(["", "the original's commands", "Adsum's engine", "times as good"], rows)
    )


def _costs(results: Results) -> str:
    rows = []
    for name, cost in results.costs.items():
        limits = " **limits**" if cost.load_share > LIMITED else ""
        rows.append(
            [
                f"{name} ({cost.unit})",
                " · ".join(f"{phase.took_s:.2g}" for phase in cost.windows),
                " · ".join(f"{phase.reference_us:.2f}" for phase in cost.windows),
                " · ".join(shown(rate) for rate in cost.per_s.windows),
                " · ".join(shown(used) for used in cost.service_us.windows),
                " · ".join(shown(used) for used in cost.redis_us.windows),
                f"{cost.service_share:.0%}",
                f"{cost.load_share:.0%}{limits}",
                f"{cost.service_bytes / 1e6:.0f}",
            ]
        )
    if not rows:
        return ""
    head = ["measured", "s", "reference µs", "a second", "service µs a unit", "Redis µs a unit"]
    head += ["service CPU", "of the others' cores", "service MB"]
    return (
        "## All costs\n\nEach window, with what a step of the reference workload took around it. Where the load "
        "generator and Redis used nearly all of their cores, they, and not the service, may have limited the rate.\n\n"
        f"{table(head, rows)}"
    )


def _failures(results: Results) -> str:
    failed = [f"- {step}: {reason}\n" for part in results.parts.values() for step, reason in part.failures.items()]
    return f"## Not measured\n\n{''.join(failed)}" if failed else ""
