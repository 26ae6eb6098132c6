"""`python -m bench.capacity`: write docs/capacity.md, what the capacity model and the simulation of routing say."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

import msgspec

from bench import machine
from bench.capacity_texts import ABOUT, ASSUMED, HOW, READING, ROUTED, ROUTING, UP_TO, WORDS
from bench.interest import COPIES, Traffic, Wire, simulate, worlds
from bench.record import Results
from bench.sizing import ONE_MASTER, Limit, Load, Machines, Past, Sizing, limits, size
from bench.text import shown, table
from bench.unit_costs import Costs, Line, Missing, read_costs

ROOT: Final = Path(__file__).parent
PAGE: Final = ROOT.parent / "docs" / "capacity.md"

USERS: Final = (1e6, 1e7, 1e8)
LOADS: Final = (Load(1, 30, 20), Load(1, 30, 200), Load(1, 5, 200))


def read(path: Path) -> Results:
    """What `make bench` wrote; raises `OSError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def page(results: Results, costs: Costs, simulated: Sequence[Traffic]) -> str:
    """The page."""
    machines, load = Machines(), LOADS[0]
    found = {load: limits(load, machines, costs) for load in LOADS}
    further = {load: limits(load, machines, costs, routed=True) for load in LOADS}
    assumed = ASSUMED.format(
        watched_online=load.watched_online,
        registered=1 / load.watched_online,
        device_changes_per_hour=load.device_changes_per_hour,
        queries_per_hour=load.queries_per_hour,
        sets_per_hour=load.sets_per_hour,
        ping_s=load.ping_s,
        utilisation=machines.utilisation,
        gateway_gb=machines.gateway_bytes / 1e9,
        master_gb=machines.master_bytes / 1e9,
        port_gbit=machines.port_bits_per_s / 1e9,
        masters=machines.masters,
    )
    sections = [
        ABOUT,
        measured(results),
        f"## In short\n\n{_in_short(found, further)}",
        assumed,
        f"## Unit costs\n\n{_unit_costs(costs)}\n{HOW}",
        f"## What it takes today\n\n{_sizings(machines, costs, routed=False)}\n{READING}",
        f"## Where it ends\n\n{UP_TO}\n{_limits(found, further)}",
        f"## With interest routing\n\n{_sizings(machines, costs, routed=True)}",
        _routing(simulated, Wire(costs.entry_bytes, costs.change_bytes)),
    ]
    return "\n".join(sections)


def measured(results: Results) -> str:
    """Of which results the page is."""
    quick = ", in a quick run" if results.quick else ""
    busy = ", **beside other work: doubtful**" if results.others_share > machine.MOST_OTHERS else ""
    redis = " ".join(results.machine["Redis"].split()[:3])
    return f"Measured {results.when}{quick}{busy}; cores: {results.machine['cores']}; {redis}.\n"


def _in_short(
    found: Mapping[Load, Mapping[Limit, float | None]], further: Mapping[Load, Mapping[Limit, float | None]]
) -> str:
    lines = []
    for load in LOADS:
        alone = _first(found[load], Past.MORE_MASTERS)
        hard, then = _first(found[load], Past.NOTHING), _first(further[load], Past.NOTHING)
        lines.append(
            f"- {_named(load).capitalize()}: {ONE_MASTER.name} up to {_millions(found[load][ONE_MASTER])} users; what "
            f"is first too much for it alone: *{alone[0]}*, up to {alone[1]}. No number of machines helps past "
            f"{hard[1]} (*{hard[0]}*); with interest routing past {then[1]} (*{then[0]}*).\n"
        )
    return "".join(lines)


def _first(found: Mapping[Limit, float | None], past: Past) -> tuple[str, str]:
    reached = [(users, limit.name) for limit, users in found.items() if users is not None and limit.past is past]
    if not reached:
        return "all holds", "any number of"
    users, name = min(reached)
    return name, _millions(users)


def _millions(users: float | None) -> str:
    return "any" if users is None else f"{shown(users / 1e6)} M"


def _named(load: Load) -> str:
    return f"sessions of {load.session_min:.0f} min, lists of {load.watch_list:.0f}"


def _unit_costs(costs: Costs) -> str:
    rows = []
    for field in fields(costs):
        value = getattr(costs, field.name)
        unit = "B" if "bytes" in field.name else "µs"
        if isinstance(value, Line):
            of = "node" if field.name == "upkeep" else "subscriber"
            rows.append([WORDS[field.name], f"{shown(value.base)} + {shown(value.each)} for each {of} {unit}"])
        elif field.name == "idle_share":
            rows.append([WORDS[field.name], f"{value:.1%}"])
        elif field.name == "base_bytes":
            rows.append([WORDS[field.name], f"{value / 1e6:.0f} MB"])
        else:
            rows.append([WORDS[field.name], f"{shown(value)} {unit}"])
    return table(["", "measured"], rows)


def _sizings(machines: Machines, costs: Costs, *, routed: bool) -> str:
    rows = []
    for users in USERS:
        for load in LOADS:
            sized = Load(users, load.session_min, load.watch_list)
            rows.append(
                [f"{users / 1e6:.0f} M", _named(load), *_sizing(sized, size(sized, machines, costs, routed=routed))]
            )
    head = ["users", "", "changes a second", "gateways by CPU · memory", "feed heard · share", "into a gateway"]
    causes = "masters: writes · fan-out · upkeep · questions · memory · network"
    return table([*head, causes, "masters in all", "out of all masters"], rows)


def _sizing(load: Load, found: Sizing) -> list[str]:
    *causes, total = found.masters_by.values()
    return [
        shown(load.changes_per_s),
        f"{_number(found.gateways_by_cpu)} · {_number(found.gateways_by_memory)}",
        f"{shown(found.heard_per_s)} · {found.feed_share:.0%}",
        f"{shown(found.feed_in_bits_per_s / 1e6)} Mbit/s",
        " · ".join(map(_number, causes)),
        _number(total),
        f"{shown(found.feed_out_bits_per_s / 1e9)} Gbit/s",
    ]


def _number(number: int | None) -> str:
    return "none" if number is None else f"{number:,}"


def _limits(*found: Mapping[Load, Mapping[Limit, float | None]]) -> str:
    columns = [by_load[load] for by_load in found for load in LOADS]
    rows = [
        [
            f"**{limit.name}**" if limit.past is Past.NOTHING else limit.name,
            *(_millions(column[limit]) for column in columns),
        ]
        for limit in columns[0]
    ]
    loads = [f"{load.session_min:.0f} min, {load.watch_list:.0f}" for load in LOADS]
    head = [f"{when}: {load}" for when in ("today", "routed") for load in loads]
    return table(["", *head], rows)


def _routing(found: Sequence[Traffic], wire: Wire) -> str:
    world = found[0].world
    about = ROUTING.format(
        per_gateway=world.per_gateway * world.scale,
        online=world.online_share,
        entry=wire.entry,
        change=wire.change,
        head=wire.head,
        interest=wire.interest,
        copies=COPIES,
    )
    head = ["list · who is on it", "gateways · users", "told", "heard a second: today · routed"]
    head += ["messages a second: today · store + told + interests", "MB a second: today · store + told + interests"]
    head += ["times fewer bytes", "routers · MB each"]
    return f"{about}\n{table(head, (_traffic(one, wire) for one in found))}\n{ROUTED.format(pays=_pays(found, wire))}"


def _who(traffic: Traffic) -> str:
    world = traffic.world
    if world.who == "popular":
        return "half popular users"
    if world.who == "communities":
        return f"communities, {'placed' if world.placed else 'anywhere'}"
    return "anyone"


def _traffic(found: Traffic, wire: Wire) -> list[str]:
    world = found.world
    sent = (found.store_messages, found.told_messages, found.asked_messages)
    sizes = (found.store_bytes(wire), found.told_bytes(wire), found.asked_bytes(wire))
    return [
        f"{world.watch_list} · {_who(found)}",
        f"{world.gateways} · {_millions(found.online)}",
        shown(found.told_gateways),
        f"{shown(found.changes)} · {shown(found.heard)}",
        f"{shown(found.plain_messages)} · {' + '.join(map(shown, sent))}",
        f"{shown(found.plain_bytes(wire) / 1e6)} · {' + '.join(shown(size / 1e6) for size in sizes)}",
        shown(found.plain_bytes(wire) / found.routed_bytes(wire)),
        f"{world.routers * COPIES} · {shown(found.router_bytes / 1e6)}",
    ]


def _pays(found: Iterable[Traffic], wire: Wire) -> str:
    """From how many gateways on it halves the bytes, by list."""
    first: dict[str, int] = {}
    for one in found:
        anywhere = one.world.who == "communities" and not one.world.placed
        if not anywhere and one.plain_bytes(wire) > 2 * one.routed_bytes(wire):
            first.setdefault(f"lists of {one.world.watch_list}, {_who(one)}", one.world.gateways)
    halved = "; ".join(f"{who}: {gateways}" for who, gateways in first.items())
    return (
        f"Among the sizes above it halves the bytes from so many gateways on: {halved}. With fewer, it is not worth it."
    )


def main() -> int:
    """Write the page; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results.json", help="what was measured")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args()
    try:
        results = read(options.results)
        costs = read_costs(results)
    except (OSError, msgspec.DecodeError) as error:
        print(f"capacity: no results to read ({error}): make bench", file=sys.stderr)
        return 2
    except Missing as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    text = page(results, costs, [simulate(world) for world in worlds()])
    options.out.write_text(text, encoding="utf-8")
    print(f"capacity: written to {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
