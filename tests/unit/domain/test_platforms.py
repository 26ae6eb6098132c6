"""Platforms, sets of them, and what configuration may say of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import ArgumentError
from adsum.domain.platforms import PRESETS, Platform, PlatformRegistry, ids_of, mask_of, parse_platforms

OPENIM = PlatformRegistry(PRESETS["openim"])


def test_the_openim_preset() -> None:
    """IDs 1 to 11 of OpenIM v3.8 with their classes."""
    assert [(p.id, p.name, p.kind) for p in PRESETS["openim"]] == [
        (1, "IOS", "Mobile"),
        (2, "Android", "Mobile"),
        (3, "Windows", "PC"),
        (4, "OSX", "PC"),
        (5, "Web", "Web"),
        (6, "MiniWeb", "MiniWeb"),
        (7, "Linux", "PC"),
        (8, "APad", "Pad"),
        (9, "IPad", "Pad"),
        (10, "Admin", "Admin"),
        (11, "HarmonyOS", "Mobile"),
    ]


def test_the_seed_preset() -> None:
    """IDs 1 to 8 of the older numbering, where 8 is Admin."""
    assert [p.id for p in PRESETS["seed"]] == list(range(1, 9))
    assert PRESETS["seed"][:7] == PRESETS["openim"][:7]
    assert PRESETS["seed"][7] == Platform(8, "Admin", "Admin")


def test_platforms_are_found_by_id_and_by_name() -> None:
    """A person may write either, the name in any case."""
    assert OPENIM.find("5") == OPENIM.find("web") == OPENIM.find("WEB") == OPENIM.get(5)
    assert 5 in OPENIM
    assert 12 not in OPENIM
    assert "Web" not in OPENIM
    assert [platform.id for platform in OPENIM] == list(range(1, 12))


@pytest.mark.parametrize("text", ["12", "0", "-1", "", "Symbian", "1.0", " 1", "9" * 30])
def test_an_unknown_platform_is_an_error_that_names_the_known(text: str) -> None:
    """Whoever mistypes one is shown what there is."""
    with pytest.raises(ArgumentError, match="known are"):
        OPENIM.find(text)


def test_checking_gives_the_mask() -> None:
    """Known IDs make a mask, repeated or not; one unknown ID spoils all."""
    assert OPENIM.check([]) == 0
    assert OPENIM.check([1, 5, 1]) == mask_of([1, 5]) == 0b100010
    assert OPENIM.mask == mask_of(range(1, 12))
    for bad in (0, 12, -1, 63, 2**31 - 1):
        with pytest.raises(ArgumentError, match=f"unknown platform {bad}:"):
            OPENIM.check([1, bad])


@pytest.mark.parametrize("platform_id", [0, -1, 63, 1_000])
def test_ids_fit_a_mask_of_63_bits(platform_id: int) -> None:
    """IDs are 1 to 62: so each mask is a non-negative signed 64-bit integer."""
    with pytest.raises(ArgumentError, match="out of range"):
        Platform(platform_id, "X", "Y")
    assert mask_of([1, 62]) < 2**63


@pytest.mark.parametrize(("name", "kind"), [("", "Y"), ("X", "")])
def test_a_platform_has_a_name_and_a_class(name: str, kind: str) -> None:
    """Neither may be empty."""
    with pytest.raises(ArgumentError, match="needs a name and a class"):
        Platform(1, name, kind)


@pytest.mark.parametrize("second", [Platform(1, "B", "X"), Platform(2, "a", "X")])
def test_no_two_platforms_share_an_id_or_a_name(second: Platform) -> None:
    """Names are told apart without regard to case."""
    with pytest.raises(ArgumentError, match="defined twice"):
        PlatformRegistry([Platform(1, "A", "X"), second])


def test_configuration_names_presets_and_platforms() -> None:
    """A later item adds to an earlier one or replaces it."""
    registry = parse_platforms(["seed", "20:Watch:Wearable", "8:APad:Pad"])
    assert [platform.id for platform in registry] == [*range(1, 9), 20]
    assert registry.get(20) == Platform(20, "Watch", "Wearable")
    assert registry.get(8) == Platform(8, "APad", "Pad")
    assert [p.id for p in parse_platforms(["7:Only:One"])] == [7]
    assert list(parse_platforms(["openim"])) == list(PRESETS["openim"])


@pytest.mark.parametrize(
    "items",
    [
        [],
        ["nokia"],
        ["openim", ""],
        ["1:A"],
        ["x:A:B"],
        ["-1:A:B"],
        ["0:A:B"],
        ["63:A:B"],
        ["12::B"],
        ["12:A:"],
        ["1:A:B:C"],
        ["openim", "12:ios:X"],
    ],
)
def test_bad_configuration_is_an_error(items: list[str]) -> None:
    """What is neither a preset nor a good platform is refused."""
    with pytest.raises(ArgumentError):
        parse_platforms(items)


@given(st.sets(st.integers(1, 62)))
def test_masks_and_ids_are_the_same_thing(ids: set[int]) -> None:
    """A set of IDs becomes a mask and back, ascending; an empty one is 0."""
    mask = mask_of(ids)
    assert ids_of(mask) == tuple(sorted(ids))
    assert bool(mask) == bool(ids)
    assert 0 <= mask < 2**63
