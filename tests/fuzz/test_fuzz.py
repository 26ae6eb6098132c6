"""Whatever a peer sends, a decoder gives a result or its own error, at a cost in proportion to the bytes."""

import pytest

from adsum.domain.errors import FrameError
from tests.fuzz.runner import FIXED, failures, new_seeds, wrong
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_taken_or_refused(name: str) -> None:
    check(name, FIXED)


@pytest.mark.parametrize("name", TARGETS)
def test_so_is_what_is_new_today(name: str) -> None:
    check(name, new_seeds())


def check(name: str, seeds: range) -> None:
    reports = failures(name, seeds)
    if reports:
        pytest.fail("\n".join(reports), pytrace=False)


def refuse(data: bytes) -> None:
    if data == b"bad":
        raise FrameError("bad")
    if data == b"crash":
        raise IndexError


def test_an_error_that_is_not_the_decoders_own_is_found() -> None:
    target = Target(bytes, refuse, (FrameError,))  # type: ignore[arg-type] # its inputs are not made here
    assert wrong(target, b"good") == wrong(target, b"bad") == ""
    assert "IndexError" in wrong(target, b"crash")
