"""The recorded frames: our own, always there, and others' where a checkout has them beside it."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from adsum.wire.messages import Request, Response

REPOSITORY = Path(__file__).resolve().parents[3]
VECTORS = REPOSITORY / "tests" / "wire_vectors"
OTHERS = REPOSITORY.parent / "shared" / "golden"
LIMIT = 1 << 20

GOLDEN_NAMES = {
    "reqIdentifier": "op",
    "token": "token",
    "sendID": "send_id",
    "operationID": "operation_id",
    "msgIncr": "msg_incr",
    "errCode": "err_code",
    "errMsg": "err_msg",
    "data": "data",
}


@cache
def own() -> dict[str, list[dict[str, Any]]]:
    loaded: dict[str, list[dict[str, Any]]] = json.loads((VECTORS / "vectors.json").read_text())
    return loaded


def golden(name: str) -> list[dict[str, Any]]:
    """All vectors of a kind: ours, which golden.go makes, and others'."""
    paths = [VECTORS / "golden" / name, *(path for path in [OTHERS / name] if path.exists())]
    return [case for path in paths for case in json.loads(path.read_text())]


def frame_of(case: dict[str, Any]) -> bytes:
    """The bytes of one of our decode cases: its own, or another's with edits."""
    if "edits" not in case:
        return bytes.fromhex(case.get("hex", ""))
    data = bytearray.fromhex(own()["decode"][case.get("base", 0)]["hex"])
    for at, value in case["edits"]:
        data[at] = value
    return bytes(data)


def shown(message: Request | Response) -> dict[str, Any]:
    """A message's fields as vectors write them, data in hex."""
    return asdict(message) | {"data": message.data.hex()}


def golden_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {ours: fields[name] for name, ours in GOLDEN_NAMES.items() if name in fields}
