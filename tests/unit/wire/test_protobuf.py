from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import DataError
from adsum.domain.platforms import ids_of
from adsum.proto import user_pb2 as pb
from adsum.wire.protobuf import (
    MAX_ENTRY_BYTES,
    BackgroundRequest,
    UserStatus,
    WatchRequest,
    decode_background,
    decode_tips,
    decode_watch,
    encode_background,
    encode_elem,
    encode_statuses,
    encode_watch,
    has_more_than,
)
from tests.unit.wire import strategies, vectors

Field = descriptor_pb2.FieldDescriptorProto


def reference_messages() -> dict[str, Any]:
    """Google's own implementation of the messages, from a description built here."""
    layout = {
        "Watch": [("subscribe", 1, Field.TYPE_STRING, True), ("unsubscribe", 2, Field.TYPE_STRING, True)],
        "Elem": [("user_id", 1, Field.TYPE_STRING, False), ("platform_ids", 2, Field.TYPE_INT32, True)],
        "Tips": [("subscribers", 1, Field.TYPE_MESSAGE, True)],
        "Background": [("user_id", 1, Field.TYPE_STRING, False), ("background", 2, Field.TYPE_BOOL, False)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="reference.proto", package="reference", syntax="proto3")
    for name, fields in layout.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            type_name = ".reference.Elem" if kind == Field.TYPE_MESSAGE else None
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"reference.{name}")) for name in layout}


REFERENCE = reference_messages()
ids = st.lists(strategies.texts, max_size=4)
platform_lists = st.lists(strategies.int32s, max_size=5)
tips = st.lists(st.tuples(strategies.texts, platform_lists), max_size=4)

# Fields of every wire type, known numbers and others: what a decoder must read or step over.
raw_fields = st.lists(
    st.sampled_from(
        [
            b"\x0a\x02u1",
            b"\x12\x02u2",
            b"\x0a\x00",
            b"\x0a\x01\xff",
            b"\x12\x03\x01\x80\x01",
            b"\x12\x01\x80",
            b"\x10\x01",
            b"\x10\x00",
            b"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x08\x05",
            b"\x0d\x01\x02\x03\x04",
            b"\x09\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x1a\x02xy",
            b"\x1b\x08\x01\x1c",
            b"\x0b\x0b\x0c\x0c",
            b"\x0b\x14",
            b"\x0c",
            b"\x0f",
            b"\x00",
            b"\x02\x00",
            b"\xfa\xff\xff\xff\x0f\x00",
            b"\xfa\xff\xff\xff\x1f\x00",
            b"\x0a\x06\x0a\x02u3\x10\x07",
        ]
    )
    | st.binary(max_size=4),
    max_size=5,
).map(b"".join)


def same(decode: Callable[[bytes], object], name: str, data: bytes) -> tuple[Any, Any]:
    """Our decoding and the reference's, `None` for a refusal."""
    ours: object
    try:
        ours = decode(data)
    except DataError:
        ours = None
    reference = REFERENCE[name]()
    try:
        reference.ParseFromString(data)
    except DecodeError:
        return ours, None
    return ours, reference


class TestReference:
    @given(ids, ids)
    def test_watch(self, subscribe: list[str], unsubscribe: list[str]) -> None:
        data = encode_watch(subscribe, unsubscribe)
        assert data == REFERENCE["Watch"](subscribe=subscribe, unsubscribe=unsubscribe).SerializeToString()
        assert decode_watch(data) == WatchRequest(tuple(subscribe), tuple(unsubscribe))

    @given(strategies.texts, st.booleans())
    def test_background(self, user_id: str, background: bool) -> None:  # noqa: FBT001
        data = encode_background(user_id, background=background)
        assert data == REFERENCE["Background"](user_id=user_id, background=background).SerializeToString()
        assert decode_background(data) == BackgroundRequest(user_id, background)

    @given(tips)
    def test_joined_elements_are_a_tips_message(self, users: list[tuple[str, list[int]]]) -> None:
        data = b"".join(encode_elem(user_id, platform_ids) for user_id, platform_ids in users)
        elems = [REFERENCE["Elem"](user_id=user_id, platform_ids=platform_ids) for user_id, platform_ids in users]
        assert data == REFERENCE["Tips"](subscribers=elems).SerializeToString()
        assert decode_tips(data) == [UserStatus(user_id, tuple(platform_ids)) for user_id, platform_ids in users]

    @given(raw_fields)
    def test_what_we_accept_of_a_watch_means_the_same(self, data: bytes) -> None:
        ours, reference = same(decode_watch, "Watch", data)
        if ours is not None:
            assert ours == WatchRequest(tuple(reference.subscribe), tuple(reference.unsubscribe))

    @given(raw_fields)
    def test_what_we_accept_of_a_background_request_means_the_same(self, data: bytes) -> None:
        ours, reference = same(decode_background, "Background", data)
        if ours is not None:
            assert ours == BackgroundRequest(reference.user_id, reference.background)

    @given(raw_fields)
    def test_what_we_accept_of_tips_means_the_same(self, data: bytes) -> None:
        content = b"\x0a" + bytes((len(data),)) + data
        ours, reference = same(decode_tips, "Tips", content)
        if ours is not None:
            assert ours == [UserStatus(elem.user_id, tuple(elem.platform_ids)) for elem in reference.subscribers]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a", id="no length"),
        pytest.param(b"\x0a\x05u1", id="length lies"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="enormous length"),
        pytest.param(b"\x0a\x01\xff", id="not UTF-8"),
        pytest.param(b"\x00\x00", id="field zero"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0c", id="end of no group"),
        pytest.param(b"\x1b", id="group without end"),
        pytest.param(b"\x1b\x24", id="group with another's end"),
        pytest.param(b"\x1b" * 101 + b"\x1c" * 101, id="groups too deep"),
        pytest.param(b"\x1b" * 50_000, id="groups without end"),
        pytest.param(b"\x18" + b"\x80" * 50_000, id="integer without end"),
        pytest.param(b"\x18" + b"\xff" * 9 + b"\x02", id="integer over 64 bits"),
        pytest.param(b"\x1d\x01\x02", id="fixed32 cut off"),
        pytest.param(b"\x19\x01\x02", id="fixed64 cut off"),
    ],
)
def test_bad_bytes_are_refused(data: bytes) -> None:
    for decode in (decode_watch, decode_background):
        with pytest.raises(DataError):
            decode(data)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_value_or_a_data_error(data: bytes) -> None:
    decoders: tuple[Callable[[bytes], object], ...] = (decode_watch, decode_background, decode_tips)
    for decode in decoders:
        with suppress(DataError):
            decode(data)


def test_unknown_fields_of_every_wire_type_are_stepped_over() -> None:
    unknown = b"\x18\x05\x19" + b"\0" * 8 + b"\x1a\x01x\x1b\x08\x01\x1b\x1a\x01y\x1c\x1c\x1d" + b"\0" * 4
    assert decode_watch(unknown + b"\x0a\x02u1" + unknown) == WatchRequest(("u1",), ())


def test_the_last_of_a_single_field_wins() -> None:
    data = b"\x0a\x01a\x10\x01\x0a\x01b\x10\x00"
    assert decode_background(data) == BackgroundRequest("b", background=False)


def test_packed_and_unpacked_platforms_mix() -> None:
    assert decode_tips(b"\x0a\x0b\x10\x01\x12\x02\x02\x05\x10\x07\x0a\x01u") == [UserStatus("u", (1, 2, 5, 7))]


def test_golden_messages() -> None:
    for case in vectors.golden("protobuf.json"):
        data, value = bytes.fromhex(case["hex"]), case["value"]
        match case["message"].rpartition(".")[2]:
            case "SubUserOnlineStatus":
                subscribe, unsubscribe = value["subscribeUserID"] or [], value["unsubscribeUserID"] or []
                assert decode_watch(data) == WatchRequest(tuple(subscribe), tuple(unsubscribe))
                assert encode_watch(subscribe, unsubscribe) == data
            case "SubUserOnlineStatusTips":
                users = [(elem["userID"], elem["onlinePlatformIDs"] or []) for elem in value["subscribers"] or []]
                assert decode_tips(data) == [UserStatus(user_id, tuple(platforms)) for user_id, platforms in users]
                assert b"".join(encode_elem(*user) for user in users) == data
            case "SetAppBackgroundStatusReq":
                assert decode_background(data) == BackgroundRequest(value["userID"], value["isBackground"])
                assert encode_background(value["userID"], background=value["isBackground"]) == data


@given(
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(0, 2**62 - 1))),
    st.integers(0, 2**64 - 1),
)
def test_status_lists_are_what_protobuf_makes_of_them(statuses: list[tuple[str, int]], cursor: int) -> None:
    """Users of any length, on any platforms, and the cursor of a listing."""
    masks = [(user_id, mask << 1) for user_id, mask in statuses]
    expected = pb.getAllOnlineUsersResp(
        StatusList=[
            pb.onlineStatus(userID=user_id, status=int(mask > 0), platformIDs=ids_of(mask)) for user_id, mask in masks
        ],
        nextCursor=cursor,
    )
    names = [user_id.encode() for user_id, _ in masks]
    assert encode_statuses(names, [mask for _, mask in masks], cursor) == expected.SerializeToString()


def test_no_byte_around_a_name_is_taken_for_a_format() -> None:
    """Such as `%`, which is a length of 37, or platform 37."""
    names = [b"%s" * (size // 2) + b"%" * (size % 2) for size in range(300)]
    for mask in (0, 1 << 1, 1 << 37, (1 << 38) - 2):
        expected = pb.getUserStatusResp(
            statusList=[
                pb.onlineStatus(userID=name.decode(), status=int(mask > 0), platformIDs=ids_of(mask)) for name in names
            ]
        )
        assert encode_statuses(names, [mask] * len(names)) == expected.SerializeToString()


@given(values=st.lists(st.binary(max_size=5), max_size=12), most=st.integers(0, 10), long_tags=st.booleans())
def test_elements_are_counted_before_they_are_decoded(values: list[bytes], most: int, *, long_tags: bool) -> None:
    """However their tag is written, and whatever they and other fields hold."""
    tag = b"\x92\x00" if long_tags else b"\x12"
    message = b"\x0a\x03\x12\x00\x12" + b"".join(tag + bytes((len(value),)) + value for value in values)
    assert has_more_than(most, message, 2) is (len(values) > most)


def test_an_element_too_large_for_one_user_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataError, match="16384 bytes for one user"):
        has_more_than(10, b"\x0a" + b"\x81\x80\x01" + bytes(MAX_ENTRY_BYTES + 1), 1)
