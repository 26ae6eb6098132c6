"""`python -m bench.capacity`: write docs/capacity.md, what the capacity model and the simulation of routing say."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

import msgspec

from bench import machine
from bench.interest import COPIES, Traffic, Wire, simulate, worlds
from bench.record import Results
from bench.sizing import Costs, Design, Limit, Line, Load, Machines, Missing, Sizing, limits, read_costs, size
from bench.text import shown, table

ROOT: Final = Path(__file__).parent
PAGE: Final = ROOT.parent / "docs" / "capacity.md"

USERS: Final = (1e6, 1e7, 1e8)
LOADS: Final = (Load(1, 30, 20), Load(1, 30, 200), Load(1, 5, 200))
TODAY: Final = Design()
FURTHER: Final = Design(shared_sweep=True, routed=True)

ABOUT: Final = """\
# Capacity

<!-- Written by `make capacity` from bench/results.json. -->

How many gateways and Redis masters 1, 10 and 100 million users online take, what runs out first, and what would move
that. Nothing here was run at that size: it is the unit costs measured by `make bench` on one small machine,
multiplied out by `bench/sizing.py`, and counts of a simulation, `bench/interest.py`. A figure is a size to think
with, not a promise.
"""

ASSUMED: Final = """\
## What is assumed

| | value | why |
|---|---|---|
| a session | 30 min, or 5 min | a desktop or an app in use; a phone that drops its socket whenever the app is left |
| a watch list | 20, or 200 users | the conversations on the screen; a whole address book |
| of a list are online | {watched_online:.0%} | at a busy time; so of all users, {registered:.1f} times as many |
| further devices | {device_changes_per_hour} changes a user and hour | a second device comes or goes every two hours |
| queries | {queries_per_hour} a user and hour, of 100 users | an app's server asks for a list |
| set by calls | {sets_per_hour} a user and hour | statuses that no connection stands for |
| pings | one each {ping_s} s | OpenIM's clients |
| an entry of the feed | one change | a gateway writes at once; only a busy one gathers several for the same partition |
| a core is used | to {utilisation:.0%} | the rest is for peaks, and for the gateways that are down |
| a gateway | a process with one core and {gateway_gb:.0f} GB | `workers` makes several of a machine |
| a Redis master | one core, {master_gb:.0f} GB | Redis runs commands on one core |
| a network port | {port_gbit:.0f} Gbit/s, used to {utilisation:.0%} | feed alone, without the headers of TCP and IP |
| masters | {masters} at most | each has a partition at least; there are 64 unless set otherwise |

Watch lists are drawn from all users alike, which is the worst case. A gateway reads a connection's list once, as a
query of as many users that memory does not know. A push is one frame to one client, as with 100 watchers. A ping is
as dear as one that comes alone, so gateways that are busy need fewer than is said here.
"""

HOW: Final = """\
What comes together shares a trip through the kernel and a turn of the event loop: hearing an entry, or publishing
one, costs *together* each time, and the rest of *apart* once a turn, in x / (1 + x) of a core, x being what it would
take if each had a turn of its own.
"""

READING: Final = """\
Masters are given for each cause as if it were the only one: *writes* of changes; *fan-out*, the publishing of each
entry to all gateways; *upkeep*, what nodes ask each second whether anything happens or not; *questions* for users
whom memory does not know; memory; the network. `none`: no number is enough. Feed: changes that each gateway hears a
second, and their share of what a gateway may do.
"""

UP_TO: Final = """\
Up to how many users online each of these holds, in millions; in bold what no number of machines helps past.
"""

UPKEEP: Final = """\
*Upkeep* grows with the square of the number of nodes, because each node looks each second through the leases of all,
in every partition. It would grow with their number if each partition were swept by one node, as webhooks are already
told by one. *Shared sweep* below stands for that.
"""

ROUTING: Final = """\
## Interest routing

Every gateway hears every change, though only those of users whom somebody watches there matter. So the work of each
gateway grows with the number of all users, and past some number adding gateways no longer helps. The way out:

- **Routers** follow the feed, each that of some partitions, and nothing else does. Each partition has a router and a
  stand-by, chosen as the owners of webhooks are (`claim` in the store).
- A gateway tells a partition's routers when the first watcher of a user comes. When the last has gone it waits a
  minute and then withdraws: many come back, and to hear too much does no harm.
- A router keeps for each watched user the set of gateways, and sends each gateway the changes of its users, in the
  order of versions, in one message every 5 ms. That delays a change by as much at most.

How it stays right:

- *Beginning.* The router answers an interest with the version its partition has reached, V: the gateway is told of
  every change after V. It takes a reading of the store that is as new as V or newer. Versions decide which state is
  newer, as they do today, so neither locks nor an order of the two are needed.
- *Holes.* A gateway no longer sees a whole chain of versions, so the chain can't show what was lost. Instead a router
  numbers its messages to each gateway, under a name that is new each time it starts. Each second it says, with a
  number too, what version it has reached in each of its partitions: so the loss of the last message shows, and a
  router that stands still. The router itself follows the chain, looks at the store's versions and catches up, as each
  gateway does today.
- *After a hole*, or under a new name, the gateway sends its interests in these partitions again, with the version up
  to which it has heard each partition. The router sends what came since, from the store's stream; if that is no
  longer kept, the gateway reads its watched users anew. Until then it doubts these partitions, as it does today in a
  catch-up.
- *A router dies.* Its stand-by has followed the same feed and has been told the same interests: the gateways go on
  with it as after a hole. *A gateway dies*: its interests go when its lease ends, or its connection has been gone for
  as long.
- *Another past of the store* is told to all gateways by every router that finds it; what follows is as today.
- *Not only watching.* Users who are only remembered for queries are interests too, or are not remembered. Logins:
  where logins end others, a gateway is interested in everyone connected to it; ended tokens are few, and go to all.
  Webhooks and the projection have one owner a partition already and follow only what they own.

What it costs, counted: {per_gateway:,} users online at each gateway, sessions of 30 min, {online:.0%} of a list
online; *told* is how many gateways a change goes to. Bytes are without the headers of TCP and IP; an entry has
{entry:.0f}, a change in it {change:.0f} (measured), a message {head:.0f} and an interest {interest:.0f} (as they
could be). Store → {copies} routers a partition → gateways, and interests back to both routers.
"""

ROUTED: Final = """\
- A change goes to as many gateways as have a watcher of the user online, so to no more than there are such watchers,
  however many gateways there are. What a gateway hears depends on its own users alone: the hard limit on gateways is
  gone.
- It pays when there are clearly more gateways than watchers of a user online. {pays}
- Interests cost as much as what they spare where lists are long and nobody else at the gateway watches the same
  users.
- Communities alone change nothing, if their users connect anywhere. With users placed so that a community shares a
  gateway, changes and interests both fall several times: that is worth more than routing finely.
- Not counted: what a router's CPU takes to send. By what it hears and sends, it is about a gateway's work for as many
  messages, so the number of routers grows with *messages* in the table, not with users.
- A step before it, without routers: a gateway that subscribes only to partitions in which somebody is watched spares
  nothing, since even a small gateway watches somebody in each of 64.
"""

WORDS: Final = {
    "connect": "gateway, a connect",
    "disconnect": "gateway, a disconnect",
    "ping": "gateway, a ping",
    "push": "gateway, a push",
    "ask": "gateway, a user asked of the store",
    "ask_redis": "Redis, a user asked of the store",
    "set": "gateway, a status set by a call",
    "idle_share": "gateway, idle, of a core",
    "base_bytes": "gateway, memory without connections",
    "connection_bytes": "gateway, memory a connection",
    "watch_bytes": "gateway, memory, the first watch of a user there",
    "further_watch_bytes": "gateway, memory, each further one",
    "user_bytes": "Redis, memory a user online",
    "entry_bytes": "bytes of an entry with one change",
    "change_bytes": "bytes of each further change",
    "hear_apart": "gateway, to hear an entry, apart",
    "hear_together": "the same, together",
    "publish_apart": "Redis, to write and publish a change, apart",
    "publish_together": "the same, together",
    "upkeep": "Redis, a node's upkeep a second",
}


def page(results: Results, costs: Costs) -> str:
    """The page; takes half a minute, for the simulation."""
    machines, load = Machines(), LOADS[0]
    found = {load: limits(load, machines, costs, TODAY) for load in LOADS}
    further = {load: limits(load, machines, costs, FURTHER) for load in LOADS}
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
        _measured(results),
        f"## In short\n\n{_in_short(found, further)}",
        assumed,
        f"## Unit costs\n\n{_unit_costs(costs)}\n{HOW}",
        f"## What it takes today\n\n{_sizings(machines, costs, TODAY)}\n{READING}",
        f"## Where it ends\n\n{UP_TO}\n{_limits(found, further)}\n{UPKEEP}",
        f"## With a shared sweep and interest routing\n\n{_sizings(machines, costs, FURTHER)}",
        _routing(Wire(costs.entry_bytes, costs.change_bytes)),
    ]
    return "\n".join(sections)


def _measured(results: Results) -> str:
    quick = ", in a quick run" if results.quick else ""
    busy = ", **beside other work: doubtful**" if results.others_share > machine.MOST_OTHERS else ""
    return f"Measured {results.when}{quick}{busy}: {results.machine['cores']} cores, {results.machine['Redis'][:26]}.\n"


def _in_short(
    found: Mapping[Load, Mapping[Limit, float | None]], further: Mapping[Load, Mapping[Limit, float | None]]
) -> str:
    lines = []
    for load in LOADS:
        soft, hard = _first(found[load], hard=False), _first(found[load], hard=True)
        then = _first(further[load], hard=True)
        lines.append(
            f"- {_named(load)}: one thing after another needs more machines, first at {soft[1]} users, past which not "
            f"*{soft[0]}*. Past {hard[1]} no number of machines helps: not *{hard[0]}*. With a shared sweep and "
            f"interest routing that is past {then[1]}, by *{then[0]}*.\n"
        )
    return "".join(lines)


def _first(found: Mapping[Limit, float | None], *, hard: bool) -> tuple[str, str]:
    reached = [(users, limit.name) for limit, users in found.items() if users is not None and limit.hard == hard]
    if not reached:
        return "anything", "any number of"
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
        else:
            rows.append([WORDS[field.name], f"{shown(value)} {unit}"])
    return table(["", "measured"], rows)


def _sizings(machines: Machines, costs: Costs, design: Design) -> str:
    rows = []
    for users in USERS:
        for load in LOADS:
            sized = Load(users, load.session_min, load.watch_list)
            rows.append([f"{users / 1e6:.0f} M", _named(load), *_sizing(sized, size(sized, machines, costs, design))])
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
        [f"**{limit.name}**" if limit.hard else limit.name, *(_millions(column[limit]) for column in columns)]
        for limit in columns[0]
    ]
    loads = [f"{load.session_min:.0f} min, {load.watch_list:.0f}" for load in LOADS]
    head = [f"{when}: {load}" for when in ("today", "shared sweep, routed") for load in loads]
    return table(["", *head], rows)


def _routing(wire: Wire) -> str:
    found = [simulate(world) for world in worlds()]
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
        if one.plain_bytes(wire) > 2 * one.routed_bytes(wire):
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
        results = msgspec.json.decode(options.results.read_bytes(), type=Results)
        text = page(results, read_costs(results))
    except (OSError, msgspec.DecodeError) as error:
        print(f"capacity: no results to read ({error}): make bench", file=sys.stderr)
        return 2
    except Missing as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    options.out.write_text(text, encoding="utf-8")
    print(f"capacity: written to {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
