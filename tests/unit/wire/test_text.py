import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.wire.text import scrub, to_text, to_utf8


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        ("用户😀".encode(), "用户😀"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xe2\x82", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf0\x9f\x98x", "\ufffd\ufffd\ufffdx"),
        (b"\xc0\xaf", "\ufffd\ufffd"),
    ],
)
def test_each_invalid_byte_becomes_one_replacement_character_as_in_go(raw: bytes, text: str) -> None:
    assert to_text(raw) == text


@given(st.text(st.characters()))
def test_any_text_becomes_utf8(text: str) -> None:
    assert to_utf8(text).decode() == scrub(text)


@given(st.binary())
def test_any_bytes_become_text_that_is_utf8(raw: bytes) -> None:
    assert to_utf8(to_text(raw)).decode() == to_text(raw)
