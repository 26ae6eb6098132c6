"""Header blocks, judged by another implementation (the `hpack` package)."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.wire.hpack import ENTRY_BYTES, Decoder, Field, HpackError, ListTooLarge, decode_huffman, encode

NAMES = st.one_of(st.sampled_from([b":path", b"te", b"operationid", b"grpc-timeout"]), st.binary(max_size=20))
FIELDS = st.lists(st.tuples(NAMES, st.one_of(st.just(b"trailers"), st.binary(max_size=200))), max_size=12)


def fields_of(mine: Decoder, block: bytes) -> list[Field]:
    """The fields of a block, of which some have their values apart from its shape."""
    shape, values = mine.decode(block)
    assert shape is not None
    apart = iter(values)
    return [(part, next(apart)) if isinstance(part, bytes) else part for part in shape]


def tell_te(name: bytes, value: bytes) -> Field | None:
    return (name, value) if name == b"te" else None


def decoder() -> Decoder:
    return Decoder(tell_te, 1 << 20, 1 << 21)


@given(st.lists(st.tuples(FIELDS, st.booleans()), max_size=20), st.data())
def test_blocks_of_another_encoder_decode_to_their_fields(
    blocks: list[tuple[list[Field], bool]], data: st.DataObject
) -> None:
    """Whatever is indexed, Huffman coded, evicted, or the table's size told in between."""
    encoder, mine = hpack.Encoder(), decoder()
    for fields, huffman in blocks:
        if data.draw(st.booleans()):
            encoder.header_table_size = data.draw(st.integers(0, 4_096))
        block = encoder.encode(fields, huffman=huffman)
        assert fields_of(mine, block) == fields


@given(FIELDS)
def test_what_we_encode_another_decoder_understands(fields: list[Field]) -> None:
    judge = hpack.Decoder()
    assert [tuple(field) for field in judge.decode(encode(fields), raw=True)] == fields


def test_blocks_that_differ_in_values_have_one_shape() -> None:
    """Whether a value comes as a text or as an index."""
    mine, encoder = decoder(), hpack.Encoder()
    blocks = [encoder.encode([(b"te", b"trailers"), (b"operationid", value)]) for value in (b"op1", b"op1", b"op2")]
    assert len({len(block) for block in blocks}) > 1
    assert [mine.decode(block) for block in blocks] == [
        (((b"te", b"trailers"), b"operationid"), [value]) for value in (b"op1", b"op1", b"op2")
    ]


def test_a_field_is_judged_once() -> None:
    """When its text comes: indexes of it bring the judgement along."""
    judged: list[Field] = []
    mine, encoder = Decoder(lambda name, value: judged.append((name, value)), 1 << 20, 1 << 21), hpack.Encoder()
    judged.clear()
    for _ in range(3):
        mine.decode(encoder.encode([(b"a", b"1"), (b"b", b"2")]))
    assert judged == [(b"a", b"1"), (b"b", b"2")]


def test_the_same_bytes_name_another_field_when_the_table_has_changed() -> None:
    mine, encoder = decoder(), hpack.Encoder()
    mine.decode(encoder.encode([(b"a", b"1")]))
    newest = b"\xbe"
    assert fields_of(mine, newest) == [(b"a", b"1")]
    mine.decode(encoder.encode([(b"b", b"2")]))
    assert fields_of(mine, newest) == [(b"b", b"2")]


def test_a_list_over_the_limit_has_no_shape_but_the_table_follows() -> None:
    limit = 2 * (ENTRY_BYTES + 2)
    mine, encoder = Decoder(tell_te, limit, 2 * limit), hpack.Encoder()
    assert mine.decode(encoder.encode([(b"a", b"1"), (b"b", b"2")]))[0] == (b"a", b"b")
    assert mine.decode(encoder.encode([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]))[0] is None
    assert mine.decode(encoder.encode([(b"c", b"3")])) == ((b"c",), [b"3"])
    assert mine.size == ENTRY_BYTES + 2


def test_a_list_far_over_the_limit_is_not_decoded_to_its_end() -> None:
    """One byte of a block may stand for 4,000 of a field: what comes after is not looked at, though it is broken."""
    mine, encoder = Decoder(tell_te, 16_384, 32_768), hpack.Encoder()
    mine.decode(encoder.encode([(b"x" * 4_000, b"v")]))
    with pytest.raises(ListTooLarge):
        mine.decode(b"\xbe" * 9 + b"\x80")


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(block: bytes) -> None:
    """And whatever we take, the other implementation takes as the same."""
    try:
        found = fields_of(decoder(), block)
    except HpackError:
        return
    judge = hpack.Decoder(max_header_list_size=1 << 30)
    assert [tuple(field) for field in judge.decode(block, raw=True)] == found


@given(st.binary(max_size=300))
def test_any_bytes_are_huffman_code_or_refused(text: bytes) -> None:
    try:
        found = decode_huffman(text)
    except HpackError:
        return
    table = hpack.Encoder().huffman_coder
    assert table.encode(found) == text


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff\x80\x80\x80\x80\x80\x01",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x40",
        b"\x40\x01a",
        b"\x40\x01a\x05b",
        b"\x40\x01a\x81\x00",
        b"\x40\x01a\x85\xff\xff\xff\xff\xff",
        b"\x40\x01a\x84\xff\xff\xff\xff",
    ],
    ids=["index-0", "unknown", "endless", "late-size", "big-size", "no-name", "no-value", "cut", "pad", "long", "end"],
)
def test_broken_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(HpackError):
        decoder().decode(block)
