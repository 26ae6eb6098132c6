"""What is still there when everybody has left: nothing should be."""

from collections.abc import Iterator

from adsum.testing.node import Node
from adsum.testing.server import Server
from adsum.testing.world import World


def leaks(world: World) -> Iterator[str]:
    """A word for each thing left behind."""
    for node in world.nodes.values():
        for what in _of_node(node):
            yield f"{node.name} still has {what}"
    holders = {node.keeper.holder for node in world.nodes.values()}
    for server in world.servers:
        for what in _of_server(server, holders):
            yield f"store{server.index} still has {what}"


def _of_node(node: Node) -> Iterator[str]:
    watching, table = node.watching, node.states.table
    tables = {
        "connections": len(node.registry),
        "users": node.registry.users(),
        "watched users": table.watched_users,
        "watches": table.links,
        "more hot users than may be": table.hot_users > node.options.query_cache_users,
        "readings under way": node.states.fetches,
        "subscribers": watching._subscribers,
        "touched users": watching._touched,
        "connections to pay": watching._ready,
        "dirty users": sum(node.writer.dirty_users),
        "writes in flight": not node.writer.clean,
        "questions": node.gateway._reads,
        "early entries": node.relay._early,
        "partitions behind": node.relay.behind,
        "webhooks": node.webhooks.waiting,
        "webhook tasks": node.webhooks._tasks,
        "webhook lines": node.webhooks._queue._lines,
        "entries not done": not all(
            course.clear for consumer in node.consumers for course in consumer._courses.values()
        ),
        "entries not fetched": any(consumer.behind or consumer._waiting for consumer in node.consumers),
        "users not copied": node.projector.waiting,
    }
    yield from (name for name, content in tables.items() if content)


def _of_server(server: Server, holders: set[str]) -> Iterator[str]:
    store = server.store
    for holder in store._leases:
        if holder not in holders:
            yield f"a lease of {holder}"
    for partition in store._partitions:
        if any(partition._buckets):
            yield f"records in partition {partition.index}"
        if partition._deadlines:
            yield f"deadlines in partition {partition.index}"
        for holder in partition._lanes:
            if holder not in holders:
                yield f"lanes of {holder}"
        if partition.online or any(partition.by_platform.values()):
            yield f"counts in partition {partition.index}"
