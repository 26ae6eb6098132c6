"""Platforms a user can be online on, and sets of them.

A set of platforms is an `int` with bit N set for platform ID N (a *mask*). IDs
run from 1 to 62, so every mask is a non-negative signed 64-bit integer. A user
is online if and only if the mask is not zero.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from adsum.domain.errors import ArgumentError

MIN_PLATFORM_ID = 1
MAX_PLATFORM_ID = 62

PC = "PC"
"""The class that multi-login policy 5 treats apart."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One kind of client: `id` 1 to 62, the `name` shown to people, and the class for login policies."""

    id: int
    name: str
    kind: str

    def __post_init__(self) -> None:
        if not MIN_PLATFORM_ID <= self.id <= MAX_PLATFORM_ID:
            raise ArgumentError(f"platform ID {self.id} is out of range: use {MIN_PLATFORM_ID} to {MAX_PLATFORM_ID}")
        if not self.name or not self.kind:
            raise ArgumentError(f"platform {self.id} needs a name and a class")


def _preset(*rows: tuple[int, str, str]) -> tuple[Platform, ...]:
    return tuple(Platform(*row) for row in rows)


_COMMON = (
    (1, "IOS", "Mobile"),
    (2, "Android", "Mobile"),
    (3, "Windows", PC),
    (4, "OSX", PC),
    (5, "Web", "Web"),
    (6, "MiniWeb", "MiniWeb"),
    (7, "Linux", PC),
)

PRESETS: Mapping[str, tuple[Platform, ...]] = MappingProxyType(
    {
        "openim": _preset(
            *_COMMON,
            (8, "APad", "Pad"),
            (9, "IPad", "Pad"),
            (10, "Admin", "Admin"),
            (11, "HarmonyOS", "Mobile"),
        ),
        "seed": _preset(*_COMMON, (8, "Admin", "Admin")),
    }
)


class PlatformRegistry:
    """The platforms this service knows. Immutable.

    Raises `ArgumentError` when two platforms share an ID or a name.
    """

    def __init__(self, platforms: Iterable[Platform]) -> None:
        self._by_id: dict[int, Platform] = {}
        names: set[str] = set()
        for platform in platforms:
            if platform.id in self._by_id or platform.name.lower() in names:
                raise ArgumentError(f"platform {platform.id} ({platform.name}) is defined twice")
            self._by_id[platform.id] = platform
            names.add(platform.name.lower())
        self.mask = mask_of(self._by_id)

    def __contains__(self, platform_id: object) -> bool:
        return platform_id in self._by_id

    def __iter__(self) -> Iterator[Platform]:
        return iter(self._by_id.values())

    def get(self, platform_id: int) -> Platform:
        """The platform of that ID; raises `ArgumentError` for an unknown one."""
        try:
            return self._by_id[platform_id]
        except KeyError:
            known = ", ".join(map(str, self._by_id))
            raise ArgumentError(f"unknown platform {platform_id}: known are {known}") from None

    def find(self, text: str) -> Platform:
        """The platform written as its ID or, in any case, its name; raises `ArgumentError`."""
        if text.isdecimal() and len(text) <= len(str(MAX_PLATFORM_ID)):
            return self.get(int(text))
        for platform in self._by_id.values():
            if platform.name.lower() == text.lower():
                return platform
        names = ", ".join(f"{p.id} {p.name}" for p in self._by_id.values())
        raise ArgumentError(f"unknown platform {text!r}: known are {names}")

    def check(self, platform_ids: Iterable[int]) -> int:
        """The mask of these IDs; raises `ArgumentError` if one is unknown."""
        mask = 0
        for platform_id in platform_ids:
            if platform_id not in self._by_id:
                self.get(platform_id)
            mask |= 1 << platform_id
        return mask


def parse_platforms(items: Iterable[str]) -> PlatformRegistry:
    """The registry that configuration items describe.

    An item is a preset's name (`openim`, `seed`) or one platform as
    `ID:NAME:CLASS`, such as `20:Watch:Wearable`. A later item of the same ID
    replaces an earlier one. Raises `ArgumentError` naming the bad item.
    """
    chosen: dict[int, Platform] = {}
    for item in items:
        if item in PRESETS:
            chosen.update((platform.id, platform) for platform in PRESETS[item])
            continue
        parts = item.split(":")
        if len(parts) != 3 or not parts[0].isdecimal():
            presets = ", ".join(PRESETS)
            raise ArgumentError(f"platform {item!r} is neither a preset ({presets}) nor ID:NAME:CLASS")
        platform = Platform(int(parts[0]), parts[1], parts[2])
        chosen[platform.id] = platform
    if not chosen:
        raise ArgumentError("no platform is configured: name a preset or at least one ID:NAME:CLASS")
    return PlatformRegistry(chosen.values())


def mask_of(platform_ids: Iterable[int]) -> int:
    """The mask of platform IDs, each 1 to 62."""
    mask = 0
    for platform_id in platform_ids:
        mask |= 1 << platform_id
    return mask


@lru_cache(maxsize=4096)
def ids_of(mask: int) -> tuple[int, ...]:
    """The platform IDs in a mask, ascending."""
    return tuple(i for i in range(MIN_PLATFORM_ID, MAX_PLATFORM_ID + 1) if mask >> i & 1)
