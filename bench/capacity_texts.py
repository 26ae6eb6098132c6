"""What docs/capacity.md says around its figures."""

from typing import Final

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
| masters | {masters} at most | each has a partition at least: `partitions` has to be set to as many, 16 by default |

Watch lists are drawn from all users alike, which is the worst case. A gateway reads a connection's list once, as a
query; its CPU for that is counted as if memory knew nobody, which is too much where gateways are few. A push is one
frame to one client, as with 100 watchers. A ping is as dear as one that comes alone, so gateways that are busy need
fewer than is said here.
"""

HOW: Final = """\
Where a cost was measured in several windows it is their median, not the best.

What comes together shares a trip through the kernel and a turn of the event loop: hearing an entry, or publishing
one, costs *together* each time, and the rest of *apart* once a turn, in x / (1 + x) of a core, x being what it would
take if each had a turn of its own.
"""

READING: Final = """\
Masters are given for each cause as if it were the only one: *writes* of changes; *fan-out*, the publishing of each
entry to all gateways; *upkeep*, what nodes ask each second whether anything happens or not, and one look through all
leases; *questions* for users whom memory does not know; memory; the network. `none`: no number is enough. Feed:
changes that each gateway hears a second, and their share of what a gateway may do. `max_connections` and
`max_watches` have to be set for so many, and `partitions` for as many masters. Where no number of gateways is enough,
the rest is for as many as memory takes.
"""

UP_TO: Final = """\
Up to how many users online each of these holds, in millions; in bold what no number of machines helps past.
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
could be). Store → {copies} routers a partition → gateways; interests go to both routers and are answered, and routers
tell of versions each second.
"""

ROUTED: Final = """\
- A change goes to as many gateways as have a watcher of the user online, so to no more than there are such watchers,
  however many gateways there are. What a gateway hears depends on its own users alone: the hard limit on gateways is
  gone.
- It pays when there are clearly more gateways than watchers of a user online. {pays}
- Interests and their answers cost about as much as the changes that are told, more where nobody else at the gateway
  watches the same users: a longer linger, or telling the stand-by only once it is needed, would halve them.
- Communities alone change nothing, if their users connect anywhere. With users placed so that a community shares a
  gateway, changes and interests both fall several times: that is worth more than routing finely.
- What a router's CPU takes is not known: nothing like it was measured. *Messages* in the table say how it would grow.
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
