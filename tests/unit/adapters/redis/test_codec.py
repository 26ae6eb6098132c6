"""How values look inside Redis, there and back."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.adapters.redis.codec import (
    counts_of,
    format_version,
    join_mask,
    parse_version,
    read_record,
    split_mask,
    version_of,
)

MASKS = st.integers(0, (1 << 62) - 1).map(lambda mask: mask << 1)
"""Of platform IDs 1 to 62."""


@given(MASKS)
def test_a_mask_in_halves_is_the_same_mask(mask: int) -> None:
    """Each half fits what Lua's bit library can hold."""
    low, high = split_mask(mask)
    assert 0 <= low < 1 << 31
    assert 0 <= high < 1 << 31
    assert join_mask(low, high) == mask


@given(st.integers(0, 1 << 44), st.integers(0, (1 << 40) - 1))
def test_a_version_is_one_number(milliseconds: int, sequence: int) -> None:
    """It can be written back as Redis knows it."""
    text = f"{milliseconds}-{sequence}"
    assert format_version(parse_version(text)) == text


@given(st.lists(st.tuples(st.integers(0, 1 << 44), st.integers(0, (1 << 40) - 1)), min_size=2))
def test_versions_are_in_the_order_of_entries(pairs: list[tuple[int, int]]) -> None:
    """Later in the stream is more."""
    assert [parse_version(f"{ms}-{seq}") for ms, seq in sorted(pairs)] == sorted(
        parse_version(f"{ms}-{seq}") for ms, seq in pairs
    )


@given(st.dictionaries(st.one_of(st.just("t"), st.integers(1, 99).map(str)), MASKS.filter(bool), max_size=5))
def test_a_record_is_the_union_of_its_holds(holds: dict[str, int]) -> None:
    """Whoever the holders are."""
    parts, union = [], 0
    for holder, mask in holds.items():
        low, high = split_mask(mask)
        parts.append(f"{holder}:{low}.{high}" if high else f"{holder}:{low}")
        union |= mask
    record = ",".join(parts).encode()
    assert read_record(record or None) == union


def test_a_summary_has_a_version_and_counts_by_platform() -> None:
    summary = b"\xaf1700000000000-3" + struct.pack("<4i", 5, 0, 0, 2)
    assert format_version(version_of(summary)) == "1700000000000-3"
    assert counts_of(summary) == {1: 5, 4: 2}


@pytest.mark.parametrize("summary", [None, b"\xa30-0"])
def test_a_summary_of_nothing(summary: bytes | None) -> None:
    assert version_of(summary) == 0
    assert counts_of(summary) == {}
