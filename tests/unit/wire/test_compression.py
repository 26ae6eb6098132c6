import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import FrameError
from adsum.wire.compression import compress, decompress
from tests.unit.wire import vectors

FRAME = compress(b"presence " * 100)


@given(st.binary(max_size=2000))
def test_round_trip(data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 100_000])
def test_equal_input_gives_equal_output_that_any_gunzip_reads(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert compress(data) == compress(data)
    assert compress(data)[4:8] == b"\0\0\0\0"
    assert gzip.decompress(compress(data)) == data


@given(st.binary(max_size=300))
def test_any_bytes_give_content_or_a_frame_error(data: bytes) -> None:
    with suppress(FrameError):
        assert len(decompress(data, 1000)) <= 1000


@pytest.mark.parametrize("end", range(len(FRAME)))
def test_cut_off_anywhere_is_refused(end: int) -> None:
    with pytest.raises(FrameError) as refused:
        decompress(FRAME[:end], 10_000)
    assert refused.value.close_code == 1007


@pytest.mark.parametrize(
    "bad", [FRAME + b"\0", FRAME + FRAME, FRAME[:-8] + b"\0" * 8, FRAME[:-1] + b"\1", zlib.compress(b"x")]
)
def test_anything_but_one_good_member_is_refused(bad: bytes) -> None:
    with pytest.raises(FrameError) as refused:
        decompress(bad, 10_000)
    assert refused.value.close_code == 1007


@pytest.mark.parametrize("limit", [0, 1, 899])
def test_over_the_limit_is_refused_with_its_own_close_code(limit: int) -> None:
    with pytest.raises(FrameError) as refused:
        decompress(FRAME, limit)
    assert refused.value.close_code == 1009


def test_exactly_the_limit_is_fine() -> None:
    assert decompress(FRAME, 900) == b"presence " * 100


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000, mtime=0)
    with pytest.raises(FrameError) as refused:
        decompress(bomb, 51_200)
    assert refused.value.close_code == 1009


def test_golden_frames() -> None:
    for frame in vectors.golden("frames.json"):
        assert decompress(bytes.fromhex(frame["gzip_hex"]), vectors.LIMIT) == bytes.fromhex(frame["hex"]), frame["name"]
