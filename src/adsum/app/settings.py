"""What settings there are: name, type, default, bounds and meaning of each.

Invariant: one field is one setting, under one name everywhere: `retry_min_ms`
in the file is `ADSUM_RETRY_MIN_MS` in the environment and `--retry-min-ms` as a
flag. `adsum.app.config` reads them; this module does no I/O.
"""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from adsum.app import values
from adsum.app.values import Address, Kind
from adsum.core.origins import Origins
from adsum.domain.errors import ArgumentError
from adsum.domain.platforms import parse_platforms
from adsum.ports import MAX_TIMED

T = TypeVar("T")

ENV_PREFIX = "ADSUM_"

KNOWN_SECRET = "openIM123"  # noqa: S105 -- the public one of OpenIM's sample configuration, to warn of
SAFE_SECRET_BYTES = 32
"""RFC 7518 section 3.2: an HS256 key has at least the size of the hash."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of a setting besides its name and default."""

    section: str
    kind: Kind[Any]
    doc: str
    secret: bool


def setting(section: str, kind: Kind[T], default: T, doc: str, *, secret: bool = False) -> T:
    """A field of `Settings`. A `secret` is never shown, in errors, help or `repr`."""
    spec = Spec(section, kind, doc, secret)
    found: T = field(default=default, repr=not (secret or kind.private), metadata={"spec": spec})
    return found


def _check_platforms(items: tuple[str, ...]) -> None:
    try:
        parse_platforms(items)
    except ArgumentError as error:
        raise ValueError(error.detail) from None


def _check_origins(items: tuple[str, ...]) -> None:
    try:
        Origins(items)
    except ArgumentError as error:
        raise ValueError(error.detail) from None


def _check_any(_items: tuple[str, ...]) -> None:
    """Any texts will do."""


_LISTEN = "Ports"
_NODE = "Node and store"
_ACCESS = "Access"
_GATEWAY = "Connections"
_WRITER = "Writing to the store"
_WATCH = "Watching"
_CALLS = "Calls"
_HOOKS = "Webhooks"
_OPENIM = "OpenIM's keys in Redis"
_LOG = "Log"

_MS = values.number(1, 86_400_000)
_COUNT = values.number(1, 10_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, valid and typed. A name ends in its unit, if it has one."""

    ws: Address = setting(
        _LISTEN, values.address(), Address("127.0.0.1", 10_001), "Where clients connect by WebSocket."
    )
    grpc: Address = setting(_LISTEN, values.address(), Address("127.0.0.1", 10_110), "Where the gRPC services listen.")
    http: Address = setting(
        _LISTEN, values.address(), Address("127.0.0.1", 10_111), "Where liveness, readiness and metrics are served."
    )

    store: str = setting(
        _NODE,
        values.store_url(),
        "memory:",
        "The store. `memory:` is embedded: one process, no disk. Redis (7.0 or later) or Valkey, one server, by "
        "Sentinel or a cluster, is for many nodes; `rediss` for TLS.",
    )
    store_prefix: str = setting(
        _NODE,
        values.text("1 to 64 letters, digits, dots, hyphens, colons or underscores", r"[A-Za-z0-9._:-]{1,64}", "TEXT"),
        "adsum",
        "What every key in Redis begins with: several services can share one.",
    )
    store_timeout_ms: int = setting(
        _NODE, values.number(10, 60_000), 1_000, "Longest wait for an answer of Redis; past it a call fails."
    )
    node: str = setting(
        _NODE,
        values.text("up to 128 letters, digits, dots, hyphens or underscores", r"[A-Za-z0-9._-]{0,128}", "NAME"),
        "",
        "This node's name, unique among nodes. Empty: made of the host's name and the process ID.",
    )
    workers: int = setting(
        _NODE,
        values.number(1, 256),
        1,
        "How many processes share the ports, each a node of its own. More than one need a store in Redis.",
    )
    platforms: tuple[str, ...] = setting(
        _NODE,
        values.items("`openim`, `seed` or `ID:NAME:CLASS`", _check_platforms),
        ("openim",),
        "The platforms known: presets and own ones such as `20:Watch:Wearable`; a later one replaces an earlier one "
        "of the same ID.",
    )
    partitions: int = setting(
        _NODE,
        values.number(1, 4_096),
        16,
        "Into how many parts the users are divided; fixed when a store is first used. A Redis cluster can have as many "
        "masters as there are parts.",
    )
    lease_ttl_ms: int = setting(
        _NODE,
        values.number(1_000, 600_000),
        15_000,
        "How long a node that has gone silent keeps its users online. It renews its lease at a third of this.",
    )
    timed_ttl_ms: int = setting(
        _NODE,
        _MS,
        1_800_000,
        "How long a status set by a call holds unless it is set again.",
    )
    max_timed_statuses: int = setting(
        _NODE,
        values.number(1, 1_000_000_000),
        MAX_TIMED,
        "Most statuses set by calls (a user on a platform) that the store holds at a time, all nodes' together; each "
        "takes some 300 to 600 bytes. With more, new ones are refused (1601) and those held can still be renewed. Each "
        "partition has its part of them, so a little less may be the limit.",
    )
    sweep_interval_ms: int = setting(
        _NODE, values.number(10, 600_000), 1_000, "How often ended leases and holds are looked for."
    )
    feed_history: int = setting(
        _NODE,
        _COUNT,
        4_096,
        "How many entries of the feed a partition keeps for nodes that have to catch up. In Redis an entry has the "
        "changes of one write, one or many, and about as many are kept; `memory:` counts changes.",
    )

    secret: str = setting(
        _ACCESS,
        values.secret(),
        "",
        "The key that tokens are signed with (HS256). Empty: a random one, and every port must be on loopback.",
        secret=True,
    )
    token_leeway_ms: int = setting(
        _ACCESS,
        values.number(0, 3_600_000),
        60_000,
        "How far the clocks of who signs tokens and of this service may differ, for a token's `exp` and `nbf`.",
    )
    admins: tuple[str, ...] = setting(
        _ACCESS, values.items("user IDs", _check_any), (), "The users who may do what only administrators may."
    )
    grpc_require_admin: bool = setting(
        _ACCESS,
        values.switch(),
        False,
        "Whether each gRPC call needs an administrator's token in its metadata (`token`).",
    )
    login_policy: int = setting(
        _ACCESS,
        values.number_of(0, 1, 4, 5),
        0,
        "Whom a login ends: 0 nobody; 1 the same platform; 4 the same class of platform; 5 all but PCs, if it is no PC "
        "itself.",
    )
    origins: tuple[str, ...] = setting(
        _ACCESS,
        values.items("origins", _check_origins),
        (),
        "The web origins that may connect, such as `https://chat.example.com`, `https://*.example.com` for all its "
        "subdomains, or `null` for pages that have none. Empty: any.",
    )

    max_connections: int = setting(_GATEWAY, _COUNT, 100_000, "Most connections of this node.")
    max_connections_per_user: int = setting(_GATEWAY, _COUNT, 64, "Most connections of one user to this node.")
    max_message_bytes: int = setting(
        _GATEWAY, values.number(1_024, 16_777_216), 51_200, "Longest message from a client, also when uncompressed."
    )
    max_user_id_bytes: int = setting(_GATEWAY, values.number(1, 4_096), 256, "Longest user ID, in UTF-8.")
    max_unwritten_bytes: int = setting(
        _GATEWAY,
        values.number(65_536, 1_073_741_824),
        1_048_576,
        "Most bytes waiting for a slow client; past it the connection closes.",
    )
    handshake_timeout_ms: int = setting(_GATEWAY, _MS, 10_000, "Longest time for a handshake.")
    heartbeat_timeout_ms: int = setting(
        _GATEWAY, values.number(1_000, 86_400_000), 30_000, "A connection this long without any frame closes."
    )
    web_ping_interval_ms: int = setting(
        _GATEWAY, _MS, 27_000, "How often web and JavaScript clients are pinged, which cannot ping by themselves."
    )
    shutdown_delay_ms: int = setting(
        _GATEWAY,
        values.number(0, 3_600_000),
        5_000,
        "After SIGTERM, how long the ports stay open while `/readyz` and gRPC's health say that this service takes "
        "nobody more: as long as your balancer needs to see that. Ctrl-C (SIGINT) does not wait.",
    )
    drain_ms: int = setting(
        _GATEWAY, values.number(0, 3_600_000), 5_000, "Over how long the goodbyes are spread when the service stops."
    )

    flush_workers: int = setting(_WRITER, values.number(1, 1_024), 8, "How many writers share the users.")
    flush_batch: int = setting(_WRITER, values.number(1, 10_000), 100, "Most users in one write.")
    flush_max_wait_ms: int = setting(
        _WRITER,
        values.number(10, 60_000),
        1_000,
        "A write that takes longer is given up and done again, so that no change waits longer to be sent.",
    )
    retry_min_ms: int = setting(_WRITER, _MS, 50, "First wait before a failed write is tried again; it doubles.")
    retry_max_ms: int = setting(_WRITER, _MS, 5_000, "Longest wait before a failed write is tried again.")

    max_watched_per_connection: int = setting(_WATCH, _COUNT, 20_000, "Most users that one connection watches.")
    max_watched_per_subscriber: int = setting(
        _WATCH, _COUNT, 20_000, "Most users that one user watches through the gRPC subscription calls."
    )
    max_watches: int = setting(
        _WATCH, values.number(1, 1_000_000_000), 10_000_000, "Most pairs of watcher and watched user on this node."
    )
    max_subscribers: int = setting(_WATCH, _COUNT, 100_000, "Most users who watch through the gRPC subscription calls.")

    max_users_per_call: int = setting(_CALLS, values.number(1, 1_000_000), 10_000, "Most users in one call.")
    query_cache_users: int = setting(
        _CALLS,
        values.number(0, 10_000_000),
        50_000,
        "Most users kept in memory because they were asked for lately, besides those who are watched. Each takes "
        "about 400 bytes: 20 MB by default. 0: none.",
    )
    stale_queries: bool = setting(
        _CALLS,
        values.switch(),
        False,
        "Whether a query for users who are all in memory is answered with what was known last when the store does "
        "not answer. Otherwise it fails.",
    )
    page_size: int = setting(
        _CALLS, values.number(1, 100_000), 4_000, "About how many users a page of the listing has."
    )

    webhook_url: str = setting(
        _HOOKS, values.web_url(), "", "Where webhooks go; the command's name is appended. Empty: off."
    )
    webhook_online: bool = setting(_HOOKS, values.switch(), True, "Whether users coming online are told.")
    webhook_offline: bool = setting(_HOOKS, values.switch(), True, "Whether users going offline are told.")
    webhook_kick: bool = setting(_HOOKS, values.switch(), True, "Whether users kicked by another login are told.")
    webhook_timeout_ms: int = setting(_HOOKS, _MS, 5_000, "Longest time for one try.")
    webhook_max_attempts: int = setting(_HOOKS, values.number(1, 1_000), 8, "Most tries for one event.")
    webhook_retry_min_ms: int = setting(_HOOKS, _MS, 200, "First wait before the next try; it doubles.")
    webhook_retry_max_ms: int = setting(_HOOKS, _MS, 30_000, "Longest wait before the next try.")
    webhook_queue: int = setting(
        _HOOKS,
        _COUNT,
        100_000,
        "With so many events waiting no more are read of the feed until half are told, and kicks are dropped.",
    )
    webhook_concurrency: int = setting(
        _HOOKS, values.number(1, 1_024), 16, "Most webhooks under way at once; one user's go one after another."
    )

    projection_url: str = setting(
        _OPENIM,
        values.redis_url(),
        "",
        "Where OpenIM's other services read presence: a Redis, in the forms of `store`, into which it is copied under "
        "OpenIM's keys. Empty: off.",
    )

    log_level: str = setting(_LOG, values.choice("debug", "info", "warning", "error"), "info", "What is logged.")
    log_format: str = setting(_LOG, values.choice("text", "json"), "text", "How it is logged: lines to read, or JSON.")

    def warnings(self) -> list[str]:
        """What is allowed but unwise, a sentence each."""
        found = []
        if not self.secret:
            found.append("no secret is set: tokens are signed with a random one, and only this machine can connect")
        elif self.secret == KNOWN_SECRET:
            found.append("secret is the published one of OpenIM's sample configuration: anybody can sign tokens")
        elif len(self.secret.encode()) < SAFE_SECRET_BYTES:
            found.append(f"secret is shorter than {SAFE_SECRET_BYTES} bytes: it can be guessed from any token")
        if not self.grpc.loopback and not self.grpc_require_admin:
            found.append(f"grpc ({self.grpc}) can be reached from other machines and asks callers for no token")
        if self.grpc_require_admin and not self.admins:
            found.append("grpc_require_admin is set and admins is empty: no gRPC call can succeed")
        if self.store != "memory:" and self.lease_ttl_ms < 3 * self.store_timeout_ms:
            found.append(
                f"lease_ttl_ms = {self.lease_ttl_ms} is less than three times store_timeout_ms = "
                f"{self.store_timeout_ms}: one slow answer can end a lease, and all users of a node with it"
            )
        return found


SPECS: dict[str, Spec] = {item.name: item.metadata["spec"] for item in fields(Settings)}
"""Every setting by name, in the order of the document."""


RELOADED = ("secret", "log_level", "log_format")
"""The settings that a running service takes over when they are read again."""


def changed(old: Settings, new: Settings) -> list[str]:
    """The settings that differ."""
    return [name for name in SPECS if getattr(old, name) != getattr(new, name)]


FILED = tuple(name for name, spec in SPECS.items() if spec.secret or spec.kind.private)
"""The settings that are secret or may hold a password: each can be in a file of its own, which `NAME_file` names."""


def file_name(name: str) -> str:
    """`secret` -> `secret_file`."""
    return f"{name}_file"


def flag_name(name: str) -> str:
    """`retry_min_ms` -> `--retry-min-ms`."""
    return "--" + name.replace("_", "-")


def env_name(name: str) -> str:
    """`retry_min_ms` -> `ADSUM_RETRY_MIN_MS`."""
    return ENV_PREFIX + name.upper()
