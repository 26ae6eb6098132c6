"""What it costs here that one process wakes another: a byte there and back, on one core and over two.

A call that waits for its answer is, on a fast service, mostly this. On a virtual machine it
depends on what the host does while a core is idle, so it is measured with every run.
"""

import os
import socket
import subprocess
import sys
from time import perf_counter

ROUNDS = 2_000

ECHO = "import socket; s = socket.socket(fileno=0)\nwhile data := s.recv(1): s.send(data)"


def there_and_back_us(here: int, there: int) -> float:
    """Microseconds for a byte to a process on core `there` and back to this one on core `here`."""
    ours, theirs = socket.socketpair()
    before = os.sched_getaffinity(0)
    with ours, theirs:
        os.sched_setaffinity(0, {there})
        echo = subprocess.Popen([sys.executable, "-c", ECHO], stdin=theirs.fileno())
        theirs.close()
        try:
            os.sched_setaffinity(0, {here})
            _turns(ours, ROUNDS // 10)
            start = perf_counter()
            _turns(ours, ROUNDS)
            return (perf_counter() - start) / ROUNDS * 1e6
        finally:
            os.sched_setaffinity(0, before)
            ours.close()
            echo.wait()


def _turns(sock: socket.socket, rounds: int) -> None:
    for _ in range(rounds):
        sock.send(b"x")
        sock.recv(1)
