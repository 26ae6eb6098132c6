"""What the system and Redis take alone for the same: the limit that the service's costs can come near to.

A server that only calls the system, in one Python loop, on the service's core: it accepts, reads and
answers as many bytes as the service does, and looks at none of them. And Redis's commands for setting
users' status, outright instead of in a script: nothing is worked out from what they say, and nobody
gets them all or none.
"""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from time import monotonic, process_time, sleep

from adsum.adapters.redis.link import Command, open_link
from bench import machine
from bench.record import Record
from bench.service import ROOT
from tests.support.redis import RedisServer, redis_server

HANDSHAKE_BYTES, UPGRADE_BYTES = 600, 129
REQUEST_BYTES, ANSWER_BYTES = 230, 90
PUSH_BYTES = 130
"""About as many as in the other parts, gob."""

CONNECTS = 5_000
WATCHERS, EVENTS = 1_000, 50
BETWEEN_EVENTS_S = 0.02
ASKERS, ASKED = 50, 60_000
LIMIT_S = 20

LIMITS = {
    "a connect: accepted, its handshake read and answered": (
        "connect_us",
        "connections.redis.10000.connect.service_us",
    ),
    "a push: written to one of 1,000 connections": ("push_us", "latency.redis.1000.push.service_us"),
    "a request (2004, gob): read and answered": ("request_us", "requests.gob.service_us"),
    "a user set, 1 call in flight: Redis's commands": ("set.1.redis_us", "writes.redis.many.1.redis_us"),
    "the same, 32 in flight": ("set.32.redis_us", "writes.redis.many.32.redis_us"),
}
"""What is compared with which figure of ours."""

PARTITIONS = 16
POPULATION = 100_000
USERS = 32_000
TRIPS_S = 1.0
BATCHES = {1: 100, 32: 1_600}
"""Users a trip, by calls in flight: one call's, or half of what is in flight, as the service has two trips at once."""


async def measure(record: Record) -> None:
    """Measure all in this process, which is the service's here."""
    with machine.pinned(machine.cores_of_service(1)):
        async with record.step("bare.system", 60):
            record.figure("bare.connect_us", connect_us(), "µs")
            record.figure("bare.push_us", push_us(), "µs")
            record.figure("bare.request_us", request_us(), "µs")
        for in_flight, users in BATCHES.items():
            cores = machine.cores_of_service if in_flight == 1 else machine.cores_of_others
            async with record.step(f"bare.set.{in_flight}", 60), AsyncExitStack() as stack:
                with machine.pinned(cores(1)):
                    redis = await stack.enter_async_context(redis_server())
                record.figure(f"bare.set.{in_flight}.redis_us", await set_us(redis, users), "µs")


class Server:
    """Answers whatever comes with the same bytes."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self._listener = listener
        self._answer = answer
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._answered = 0
        self.clients: dict[int, socket.socket] = {}

    def serve(self, answers: int) -> float:
        """Go on until so many were given, from the first connection on; CPU microseconds each.

        Raises `TimeoutError` after `LIMIT_S`.
        """
        ends = monotonic() + LIMIT_S
        first, start = self._answered, process_time()
        while self._answered - first < answers:
            if monotonic() > ends:
                raise TimeoutError(f"only {self._answered - first} of {answers} answers in {LIMIT_S} s")
            for number, _ in self._epoll.poll(1):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._turn(self.clients[number])
        return (process_time() - start) / answers * 1e6

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                client.settimeout(0)
                self._epoll.register(client, select.EPOLLIN)
                self.clients[client.fileno()] = client
        except BlockingIOError:
            pass

    def _turn(self, client: socket.socket) -> None:
        client.recv(4_096)
        client.send(self._answer)
        self._answered += 1

    def close(self) -> None:
        """Close every connection."""
        for client in self.clients.values():
            client.close()
        self._epoll.close()


@contextmanager
def serving(clients: int, heard: int, answer: int, *, asking: bool = False) -> Iterator[Server]:
    """A server with so many clients, which say `heard` bytes and are told `answer` bytes."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        with machine.pinned(machine.cores_of_others(1)):
            flags = map(str, (port, clients, heard, "ask" if asking else "listen"))
            peers = subprocess.Popen([sys.executable, str(ROOT / "peers.py"), *flags])
        server = Server(listener, bytes(answer))
        try:
            yield server
        finally:
            server.close()
            peers.kill()
            peers.wait()


def connect_us() -> float:
    """CPU to accept a connection, read its handshake and answer it."""
    with serving(CONNECTS, HANDSHAKE_BYTES, UPGRADE_BYTES) as server:
        return server.serve(CONNECTS)


def push_us() -> float:
    """CPU to tell many watchers of an event, each; between events all of them have heard it."""
    with serving(WATCHERS, HANDSHAKE_BYTES, UPGRADE_BYTES) as server:
        server.serve(WATCHERS)
        push, used = bytes(PUSH_BYTES), 0.0
        for _ in range(EVENTS):
            sleep(BETWEEN_EVENTS_S)
            start = process_time()
            for client in server.clients.values():
                client.send(push)
            used += process_time() - start
        return used / EVENTS / WATCHERS * 1e6


def request_us() -> float:
    """CPU to read a request and answer it."""
    with serving(ASKERS, REQUEST_BYTES, ANSWER_BYTES, asking=True) as server:
        server.serve(ASKED // 10)
        return server.serve(ASKED)


async def set_us(redis: RedisServer, users_a_trip: int) -> float:
    """Redis's CPU to set a user's status, so many in a trip, one trip after another."""
    link = await open_link(("127.0.0.1", redis.port), None, LIMIT_S, (("PING",),))
    for first in range(0, POPULATION, 10_000):
        await link.must(*come(range(-first - 10_000, -first)))
    trips = [range(first, first + users_a_trip) for first in range(0, USERS, users_a_trip)]
    turns = [*map(come, trips), *map(go, trips)]
    made, before, ends = 0, machine.cpu_s([redis.pid]), monotonic() + TRIPS_S
    while monotonic() < ends:
        await link.must(*turns[made % len(turns)])
        made += 1
    link.close()
    return (machine.cpu_s([redis.pid]) - before) / made / users_a_trip * 1e6


def come(users: range) -> list[Command]:
    """The commands by which users come online."""
    return commands(users, "ZADD", [b"1763893837123"], "HSET", [b"t:32"])


def go(users: range) -> list[Command]:
    """The commands by which they go offline."""
    return commands(users, "ZREM", [], "HDEL", [])


def commands(users: range, deadlines: str, deadline: list[bytes], records: str, record: list[bytes]) -> list[Command]:
    """In each partition: records read and written, deadlines, the feed, the summary; then the news of all."""
    made: list[Command] = []
    told = b""
    for partition in range(PARTITIONS):
        names = [b"user-%d" % user for user in users if user % PARTITIONS == partition]
        if not names:
            continue
        keys = {what: f"bare:{{{partition}}}:{what}" for what in ("users", "feed", "deadlines")}
        told += b"\x00".join(names)
        made.append(("HMGET", keys["users"], b"", *names))
        made.append((deadlines, keys["deadlines"], *(part for name in names for part in (*deadline, b"5:" + name))))
        made.append(("XADD", keys["feed"], "MAXLEN", "~", 10_000, "*", "c", bytes(40) + b"\x00".join(names)))
        made.append((records, keys["users"], *(part for name in names for part in (name, *record))))
        made.append(("HSET", keys["users"], b"", bytes(34)))
    made.append(("SPUBLISH", "bare:news", told))
    return made
