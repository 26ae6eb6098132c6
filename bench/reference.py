"""A fixed piece of work whose time says how fast this machine is now.

It is of the kind the service does: calls, dictionaries, bytes and sockets, in Python. It is measured
around each window. Figures of two runs are compared in units of it, so that another machine, or the
same one at another hour, is no slowdown. It must never change: it would part all earlier results from
later ones.
"""

import socket
from hashlib import md5
from time import process_time

STEPS = 20_000


def measure() -> float:
    """CPU microseconds a step; it takes some hundredths of a second."""
    left, right = socket.socketpair()
    held: dict[str, tuple[int, bytes]] = {}
    with left, right:
        start = process_time()
        for step in range(STEPS):
            user = f"user-{step % 4096}"
            digest = md5(user.encode(), usedforsecurity=False).digest()
            held[user] = (digest[0] % 64, digest[4:12])
            if step % 4 == 0:
                left.send(b"%b:%d" % (held[user][1], step))
                right.recv(64)
        return (process_time() - start) / STEPS * 1e6
