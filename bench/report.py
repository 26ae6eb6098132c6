"""Results as a page to read (RESULTS.md), as data (results.json, and each part's in raw/) and as a plot."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import growth, machine
from bench.parts import latency
from bench.record import Cost, Figure, Results, as_json
from bench.table import ROWS, Aim, Row
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
beside it Centrifugo; their figures are quoted from another measurement, on a machine with 2 cores. *Times as good*
is against the original's best figure.
"""

NOTES = """\
How the rows are to be read:

- Latency is from the moment the user's handshake is sent, or their socket closed, over all pairs of event and watcher.
- Request 2004 says whether the client's app is in the background. The service notes it and answers with success and no
  data; nothing is written to the store. One request a connection is in flight.
- With one call in flight, and in walks over a listing, generator, service and Redis never work at once. They share a
  core then: waking another core for each turn can cost a virtual machine more than the turn (see above), and says
  nothing of the service.
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
    sections = [ABOUT, _machine(results), _main_table(results), NOTES, _misses(results), _latency(results)]
    sections += [_workers(results), _engine(results), growth.section(results), _costs(results), _failures(results)]
    return "\n".join(section for section in sections if section)


def _machine(results: Results) -> str:
    facts = "".join(f"- {name}: {value}\n" for name, value in results.machine.items())
    busy = " — **figures are doubtful**" if results.others_share > machine.MOST_OTHERS else ""
    references = [part.reference_us for part in results.parts.values()]
    spread = f"{min(references):.2f} to {max(references):.2f}" if references else "none"
    return (
        f"{facts}- when: {results.when}, load average at the start {results.load_average:.2f}\n"
        f"- other work on the machine meanwhile: up to {results.others_share:.0%} of it (a part){busy}\n"
        f"- the reference workload (`bench/reference.py`): {spread} µs a step\n"
        + ("- a quick run: shorter, and with fewer sizes\n" if results.quick else "")
    )


def _main_table(results: Results) -> str:
    head = ["work", "the original", "aim", "Adsum", "times as good", "embedded", "CPU and memory", "met"]
    return table(head, [_row(results, row) for row in _rows(results)])


def _rows(results: Results) -> list[Row]:
    """Those of the parts that were run."""
    return [row for row in ROWS if row.aims[0].figure.split(".")[0] in results.parts]


def _row(results: Results, row: Row) -> list[str]:
    values = [aim.value(results) for aim in row.aims]
    better = [aim.times_better(value) for aim, value in zip(row.aims, values, strict=True) if value is not None]
    return [
        row.work,
        row.original,
        _joined(row.aims, [f"{'≥' if aim.least else '≤'} {shown(aim.bound)}" for aim in row.aims]),
        _joined(row.aims, [_shown_figure(results, aim) for aim in row.aims]),
        " · ".join(shown(ratio) for ratio in better if ratio) or "-",
        _embedded(results, row),
        _cost(results, row.cost),
        "yes" if is_met(results, row) else "**no**",
    ]


def _joined(aims: Sequence[Aim], texts: list[str]) -> str:
    """Values with their units, each with its own if they differ."""
    if len({aim.unit for aim in aims}) == 1:
        return f"{' · '.join(texts)} {aims[0].unit}"
    return " · ".join(f"{text} {aim.unit}" for aim, text in zip(aims, texts, strict=True))


def is_met(results: Results, row: Row) -> bool:
    """Whether all of a row's aims are."""
    values = [aim.value(results) for aim in row.aims]
    return all(value is not None and aim.is_met(value) for aim, value in zip(row.aims, values, strict=True))


def _shown_figure(results: Results, aim: Aim) -> str:
    value = aim.value(results)
    if value is None:
        return f"not measured: {results.why_missing(aim.figure)}"
    figure: Figure = results.figures[aim.figure]
    # Counts are exact however short the time was.
    exact = figure.unit in ("users", "frames")
    return f"{'≈' if figure.rough and not exact else ''}{shown(value)}"


def _embedded(results: Results, row: Row) -> str:
    others = [other for aim in row.aims if (other := aim.embedded()) and other.value(results) is not None]
    return _joined(others, [_shown_figure(results, other) for other in others]) if others else "-"


def _cost(results: Results, name: str) -> str:
    cost = results.costs.get(name)
    if cost is None:
        return "-"
    phase = cost.phase
    service, redis = (used / phase.units * 1e6 for used in (phase.service_cpu_s, phase.redis_cpu_s))
    return f"{shown(service)} + {shown(redis)} µs a {cost.unit}, {phase.service_rss_bytes / 1e6:.0f} MB"


def _misses(results: Results) -> str:
    missed = [row for row in _rows(results) if not is_met(results, row)]
    lines = "".join(f"- {row.work}\n" + (f"  ({row.profile})\n" if row.profile else "") for row in missed)
    return "## Aims not met, and where the time goes\n\n" + (lines or "None.\n")


def _latency(results: Results) -> str:
    rows = []
    for engine, label in growth.ENGINES.items():
        for watchers in latency.WATCHERS:
            name = f"latency.{engine}.{watchers}"
            found = [
                [results.figures.get(f"{name}.{what}_{quantity}_ms") for quantity in ("median", "p99")]
                for what in LATENCIES.values()
            ]
            cells = [" · ".join(shown(figure.value) for figure in pair if figure) for pair in found]
            if any(cells):
                rows.append([f"{watchers:,} watchers, {label}", *cells])
    head = ["ms: median · p99", *LATENCIES]
    return f"## From connect or disconnect to receipt\n\n{table(head, rows)}" if rows else ""


def _workers(results: Results) -> str:
    rows = []
    for what, name in WORKERS:
        one, two = (results.costs.get(f"workers.{count}.{name}") for count in (1, 2))
        if one and two:
            rows.append([what, *_rate_and_cost(one), *_rate_and_cost(two), shown(_rate(two) / _rate(one))])
    if not rows:
        return ""
    head = ["Redis engine", "1 worker: a second", "CPU µs", "2 workers: a second", "CPU µs", "rate, two over one"]
    shared = results.costs["workers.2.get"].load_cores if "workers.2.get" in results.costs else 0
    return (
        f"## Two workers\n\nWith two workers the load generator and Redis had {shared} cores, on this machine of "
        f"{results.machine['cores'].split()[0]}: where these are the same ones, a second says little, and CPU time a "
        f"unit of work (service + Redis) more.\n\n{table(head, rows)}"
    )


def _rate(cost: Cost) -> float:
    return cost.phase.units / cost.phase.took_s


def _rate_and_cost(cost: Cost) -> tuple[str, str]:
    phase = cost.phase
    service, redis = (used / phase.units * 1e6 for used in (phase.service_cpu_s, phase.redis_cpu_s))
    return shown(_rate(cost)), f"{shown(service)} + {shown(redis)}"


def _engine(results: Results) -> str:
    rows = []
    for what, name, better in ENGINE_ROWS:
        ours, original = (results.figures.get(f"redis.{whose}.{name}") for whose in ("ours", "original"))
        if ours and original:
            ratio = ours.value / original.value if better == "more" else original.value / ours.value
            rows.append([what, shown(original.value), shown(ours.value), shown(ratio)])
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
        phase, limited = cost.phase, cost.load_share > LIMITED
        rows.append(
            [
                name,
                f"{cost.unit}: {phase.units:,}",
                f"{phase.took_s:.2f}",
                shown(_rate(cost)),
                *_rate_and_cost(cost)[1].split(" + "),
                f"{phase.service_cpu_s / phase.took_s * 100:.0f} %",
                f"{cost.load_share * 100:.0f} %{' **limits**' if limited else ''}",
                f"{phase.service_rss_bytes / 1e6:.0f}",
            ]
        )
    if not rows:
        return ""
    head = ["measured", "units", "s", "a second", "service µs a unit", "Redis µs a unit", "service CPU"]
    head += ["of the others' cores", "service MB"]
    return (
        "## All costs\n\nWhere the load generator and Redis used nearly all of their cores, they, and not the service, "
        f"may have limited the rate.\n\n{table(head, rows)}"
    )


def _failures(results: Results) -> str:
    failed = [f"- {step}: {reason}\n" for part in results.parts.values() for step, reason in part.failures.items()]
    return f"## Not measured\n\n{''.join(failed)}" if failed else ""
