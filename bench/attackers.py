"""A client that floods a service, in a process of its own: it sends what the service takes, and reads the answers."""

import multiprocessing
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from adsum.wire.handshake import Handshake, build_query
from tests.support.client import upgrade_request
from tests.support.floods import FLOODS, WS

REASON = b"too much work"
READ_BYTES = 1 << 18
PAUSE_S = 0.05
"""After a connection that was refused."""


@dataclass
class Done:
    """What attackers did, all together."""

    connections: int = 0
    sent_bytes: int = 0
    told_to_go: int = 0


class Attackers:
    """So many of one kind, at one service, for so long; each is its own process."""

    def __init__(self, kind: str, address: str, tokens: dict[str, str], for_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue = context.SimpleQueue()
        self._processes: list[BaseProcess] = [
            context.Process(target=_attack, args=(kind, address, user_id, token, for_s, self._queue), daemon=True)
            for user_id, token in tokens.items()
        ]
        for process in self._processes:
            process.start()

    def end(self) -> Done:
        """Wait for their end; what they did."""
        done = Done()
        for process in self._processes:
            one: Done = self._queue.get()
            done.connections += one.connections
            done.sent_bytes += one.sent_bytes
            done.told_to_go += one.told_to_go
            process.join(10)
        return done


def _attack(
    kind: str, address: str, user_id: str, token: str, for_s: float, queue: "multiprocessing.SimpleQueue[Done]"
) -> None:
    done, ends_s = Done(), time.monotonic() + for_s
    while time.monotonic() < ends_s:
        try:
            _one_connection(kind, address, user_id, token, ends_s, done)
        except OSError:
            time.sleep(PAUSE_S)
    queue.put(done)
    sys.stdout.flush()


def _one_connection(kind: str, address: str, user_id: str, token: str, ends_s: float, done: Done) -> None:
    """Send until the service ends it, or says that it is too much."""
    host, _, port = address.rpartition(":")
    flood = FLOODS[kind]
    blocks: Iterator[bytes] = flood.blocks(user_id)
    with socket.create_connection((host, int(port)), timeout=5) as sock, selectors.DefaultSelector() as selector:
        done.connections += 1
        if flood.port == WS:
            query = build_query(Handshake(user_id, token, 1, "op", sdk_type=flood.codec.kind, gzip=flood.codec.gzip))
            sock.sendall(upgrade_request(f"ws://{address}/?{query}"))
            sock.recv(READ_BYTES)
        sock.setblocking(False)  # noqa: FBT003 - its only form
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        rest = memoryview(b"")
        while time.monotonic() < ends_s:
            for _, events in selector.select(0.2):
                if events & selectors.EVENT_READ:
                    data = sock.recv(READ_BYTES)
                    done.told_to_go += REASON in data or b"ask nothing" in data
                    if not data or REASON in data:
                        return
                if events & selectors.EVENT_WRITE:
                    rest = rest or memoryview(next(blocks))
                    sent = sock.send(rest)
                    done.sent_bytes += sent
                    rest = rest[sent:]
