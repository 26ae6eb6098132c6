"""Store URLs.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]                 one server
    redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST…]      a cluster, any of its nodes
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST…]/SERVICE[/DB]

`rediss` instead of `redis` for TLS, by the system's certificates or those of a file:
`?ca=/path/to/ca.pem` at the end. `valkey` may be said for `redis`. A login is the
server's; Sentinels are asked without one.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from adsum.domain.errors import ArgumentError

PORT = 6379
SENTINEL_PORT = 26379
_FORM = re.compile(
    r"(redis|valkey)(s?)(\+cluster|\+sentinel)?://(?:([^@/]*)@)?([^/?#]+)(?:/([^?#]*))?(?:\?ca=([^?#&]+))?"
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the store is. `service` is set for Sentinel; `db` is 0 on a cluster."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    cluster: bool = False
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str = ""


def parse_store_url(text: str) -> StoreUrl:
    """The parts of a store URL; raises `ArgumentError`, whose text never has the password."""
    found = _FORM.fullmatch(text)
    if not found:
        raise ArgumentError("the store URL is not of a known form, such as redis://HOST:6379/0")
    _, tls, kind, login, hosts, path, ca_file = found.groups()
    user, _, password = (login or "").partition(":")
    steps = (path or "").strip("/").split("/") if path else []
    service = ""
    if kind == "+sentinel":
        if not steps:
            raise ArgumentError("a Sentinel URL ends with the service's name: redis+sentinel://HOST/SERVICE")
        service = steps.pop(0)
    if kind == "+cluster" and steps:
        raise ArgumentError("a cluster has no numbered databases: leave out what follows the hosts")
    if len(steps) > 1 or (steps and not steps[0].isdecimal()):
        raise ArgumentError("the store URL ends with a database number, such as /0")
    if ca_file and not tls:
        raise ArgumentError("?ca= is for TLS: write rediss:// instead of redis://")
    default = SENTINEL_PORT if kind == "+sentinel" else PORT
    addresses = tuple(_address(host, default) for host in hosts.split(","))
    if kind is None and len(addresses) > 1:
        raise ArgumentError("several hosts need redis+cluster:// or redis+sentinel://")
    return StoreUrl(
        hosts=addresses,
        tls=bool(tls),
        cluster=kind == "+cluster",
        service=service,
        db=int(steps[0]) if steps else 0,
        username=unquote(user) or None,
        password=unquote(password) or None,
        ca_file=unquote(ca_file or ""),
    )


def _address(text: str, default_port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", text)
    if not found:
        raise ArgumentError("a host of the store URL is not HOST or HOST:PORT")
    return found[1] or found[2], int(found[3] or default_port)
