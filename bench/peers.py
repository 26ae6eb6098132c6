"""Clients that do nothing with what they hear: the other end of what `bench/parts/bare.py` measures.

`python bench/peers.py PORT COUNT BYTES ask|listen`: COUNT connections to PORT on loopback, at most
`UNDER_WAY` of them not yet answered, say BYTES bytes each when they are open. After an answer they
say them again (ask), or only listen. It ends when the server has closed all of them.
"""

import select
import socket
import sys

UNDER_WAY = 512


def main(port: int, count: int, request: bytes, *, asking: bool) -> None:
    """Talk until the server closes."""
    epoll = select.epoll()
    clients: dict[int, socket.socket] = {}
    silent: set[int] = set()
    opened = 0
    while opened < count or clients:
        while opened < count and len(silent) < UNDER_WAY:
            client = socket.create_connection(("127.0.0.1", port))
            epoll.register(client, select.EPOLLIN)
            clients[client.fileno()] = client
            silent.add(client.fileno())
            client.send(request)
            opened += 1
        for number, _ in epoll.poll():
            if not clients[number].recv(4_096):
                clients.pop(number).close()
            elif asking:
                clients[number].send(request)
            silent.discard(number)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), bytes(int(sys.argv[3])), asking=sys.argv[4] == "ask")
