"""Calls replayed byte for byte: ours, and those recorded from OpenIM where they are beside a checkout."""

import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict

from adsum.adapters.memory import MemoryStore
from adsum.domain.platforms import ids_of
from adsum.proto import user_pb2 as pb
from adsum.proto.status_pb2 import Status

REPOSITORY = Path(__file__).parents[4]
OWN = REPOSITORY / "tests" / "wire_vectors" / "golden"
RECORDED = REPOSITORY.parent / "shared" / "golden"

recorded_calls = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recorded calls beside this checkout; ours are run"
)

Case = dict[str, Any]

REDIS_ONLY = {
    # What these ask about was put into Redis by hand: passed deadlines, members and keys of a wrong type.
    "get_expired_is_hidden",
    "get_all_lists_expired_too",
    "online_drops_expired",
    "get_bad_member",
    "get_wrong_type",
    "set_wrong_type_stops_batch",
    "get_all_wrong_type",
}
STRICTER = {
    # Accepted by OpenIM; here each is a bad argument, with code 1001.
    "batch_of_3": "an empty user ID (the user before it is applied), and platforms -1 and 0",
    "single_status_2": "a status that is neither 1 nor 0",
    "get_empty_id": "an empty user ID",
}
OTHER_STORE = {
    # Asked of another state than the calls before them left: get_all_empty of none, get_all_5 of n0 to n4.
    "get_all_empty",
    "get_all_5",
}
UNKEPT = {"", "用户", "old", "older", "str", "bad", "s1"}
"""Users that only the calls above put into the original's store."""


def load(name: str, *folders: Path) -> list[Case]:
    paths = [folder / name for folder in folders]
    return [case for path in paths if path.exists() for case in json.loads(path.read_text())]


def recorded(name: str) -> Case:
    return next(case for case in load("rpc_online.json", RECORDED) if case["name"] == name)


async def replay(channel: grpc.aio.Channel, case: Case) -> bytes:
    metadata = tuple((key.lower(), value) for key, value in case.get("metadata", {"operationID": "op"}).items())
    stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/openim.user.user/{case['method']}")
    return await stub(bytes.fromhex(case["request_hex"]), metadata=metadata, timeout=10)


async def test_our_calls_in_order(channel: grpc.aio.Channel, store: MemoryStore) -> None:
    cases = load("calls.json", OWN)
    assert cases
    for number, case in enumerate(cases):
        if case["grpc_code"]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await replay(channel, case)
            assert status_of(caught.value) == case["grpc_code"], number
        else:
            assert (await replay(channel, case)).hex() == case["reply_hex"], number
        page = await store.page(0, 1_000)
        assert {user_id: list(ids_of(mask)) for user_id, mask in page.users} == case["after"], number


def status_of(error: grpc.aio.AioRpcError) -> int:
    """OpenIM's code, which grpcio does not know as a status: it is in the details."""
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    return Status.FromString(details).code


@recorded_calls
async def test_calls_in_order_have_the_same_outcome(channel: grpc.aio.Channel, store: MemoryStore) -> None:
    replayed = 0
    for case in load("rpc_online.json", RECORDED):
        name = case["name"]
        if name in REDIS_ONLY | OTHER_STORE:
            continue
        replayed += 1
        if name in STRICTER:
            await same_refusal(channel, {**case, "grpc_code": 1001, "grpc_message": "ArgsError"})
        elif case["grpc_code"]:
            await same_refusal(channel, case)
        else:
            assert (await replay(channel, case)).hex() == case["reply_hex"], name
        await same_state(store, case)
    assert replayed == 25


async def same_refusal(channel: grpc.aio.Channel, case: Case) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await replay(channel, case)
    code, error = case["grpc_code"], caught.value
    if code <= 16:
        # The recorded details are the Go client's own; without an ErrorInfo there are none on the wire.
        assert error.code().value[0] == code
        assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    if case["name"] != "unknown_method":  # grpcio words it differently
        # Where there are details Go's client shows the name of these; the header has the cause besides.
        assert (error.details() or "").partition(": ")[0] == case["grpc_message"]
    if code > 16 and "grpc_status_details_hex" in case:
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert details.hex() == case["grpc_status_details_hex"]


async def same_state(store: MemoryStore, case: Case) -> None:
    """Every user is online where the original's Redis says so."""
    expected = {
        key.removeprefix("ONLINE:"): sorted(int(row["member"]) for row in rows)
        for key, rows in (case["redis_after"] or {}).items()
        if key.removeprefix("ONLINE:") not in UNKEPT
    }
    page = await store.page(0, 1_000)
    assert {user_id: list(ids_of(mask)) for user_id, mask in page.users} == expected, case["name"]


@recorded_calls
async def test_listing_nobody(channel: grpc.aio.Channel) -> None:
    case = recorded("get_all_empty")
    assert (await replay(channel, case)).hex() == case["reply_hex"]


@recorded_calls
async def test_listing_five_in_any_order(channel: grpc.aio.Channel) -> None:
    users = pb.setUserOnlineStatusReq(status=[pb.userOnlineStatus(userID=f"n{i}", online=[1]) for i in range(5)])
    case = recorded("get_all_5")
    await replay(channel, {**case, "method": "setUserOnlineStatus", "request_hex": users.SerializeToString().hex()})
    got, want = (
        pb.getAllOnlineUsersResp.FromString(body)
        for body in (await replay(channel, case), bytes.fromhex(case["reply_hex"]))
    )
    assert got.nextCursor == want.nextCursor == 0
    assert sorted(got.StatusList, key=str) == sorted(want.StatusList, key=str)


@pytest.mark.parametrize(
    "case",
    [case for case in load("protobuf.json", OWN, RECORDED) if case["message"].startswith("openim.user.")],
    ids=lambda case: case["name"],
)
def test_messages_have_the_names_numbers_and_types_of_go(case: Case) -> None:
    message_type = getattr(pb, case["message"].removeprefix("openim.user."))
    message = ParseDict(case["value"], message_type())
    assert message.SerializeToString().hex() == case["hex"]
    assert message_type.FromString(bytes.fromhex(case["hex"])) == message
