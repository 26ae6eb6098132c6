import json
import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.domain.errors import FrameError
from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Request, Response
from tests.unit.wire import strategies, vectors

codecs = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.kind}{'+gzip' * codec.gzip}")
SAMPLES: list[Request | Response] = [
    Request(),
    Request(2005, "a.b.c", "用户😀", "op", "u1_1_1", b"\x0a\x02u2"),
    Request(-(2**31), '\u2028<&>"\\\n\x01', "x" * 300, "", "", b"\0" * 130),
    Request(2**31 - 1, "", "a\ud800", "", "", b"\xff"),
    Response(),
    Response(2005, "1", "op", 0, "", b"\x0a\x04\x0a\x02u1"),
    Response(1003, "\u2029</script>", "用户", 1004, "RecordNotFoundError"),
    Response(2002, "", "", -(2**63), "\x00\x7f\x80", b"\1" * 70_000),
    Response(63, "", "", 2**63 - 1),
    Response(64, "", "", 64),
    Response(-65, "", "", -65),
]


@codecs
@given(request_=strategies.requests)
def test_request_round_trip(codec: Codec, request_: Request) -> None:
    assert codec.decode_request(codec.encode_request(request_), vectors.LIMIT) == request_


@codecs
@given(response=strategies.responses)
def test_response_round_trip(codec: Codec, response: Response) -> None:
    assert codec.decode_response(codec.encode_response(response), vectors.LIMIT) == response


@codecs
@given(data=st.binary(max_size=100))
def test_any_bytes_give_a_message_or_a_frame_error(codec: Codec, data: bytes) -> None:
    for decode in (codec.decode_request, codec.decode_response):
        with suppress(FrameError):
            decode(data, 1000)


@codecs
def test_the_limit_holds_before_and_after_decompression(codec: Codec) -> None:
    request = Request(1003, data=b"\0" * 5000)
    for limit in (10, 1000):
        with pytest.raises(FrameError) as refused:
            codec.decode_request(codec.encode_request(request), limit)
        assert refused.value.close_code == 1009
    assert codec.decode_request(codec.encode_request(request), 10_000) == request


def test_codecs_are_equal_by_value() -> None:
    assert len({Codec(kind, gzip=gzip) for kind in ("go", "js") for gzip in (False, True)} | set(CODECS)) == 4


def order_of(codec: Codec, message: Request | Response) -> str:
    request = isinstance(message, Request)
    data = codec.encode_request(message) if isinstance(message, Request) else codec.encode_response(message)
    kind = {"go": "gob", "js": "json"}[codec.kind]
    return json.dumps(
        {"struct": "request" if request else "response", "codec": kind, "gzip": codec.gzip, "hex": data.hex()}
    )


@pytest.mark.skipif(shutil.which("go") is None, reason="no go on PATH to decode our frames with")
def test_go_decodes_every_frame_we_encode() -> None:
    jobs = [(codec, message) for codec in CODECS for message in SAMPLES]
    orders = "\n".join(order_of(codec, message) for codec, message in jobs)
    command = ["go", "run", str(vectors.VECTORS / "check.go")]
    done = subprocess.run(command, input=orders, capture_output=True, text=True, check=True, timeout=100)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(jobs)
    for (codec, message), answer in zip(jobs, answers, strict=True):
        expected = {
            name: field.replace("\ud800", "\ufffd") if isinstance(field, str) else field
            for name, field in vectors.shown(message).items()
        }
        assert answer == expected, codec


def test_golden_frames_through_their_codecs() -> None:
    for frame in vectors.golden("frames.json"):
        for gzip, name in ((False, "hex"), (True, "gzip_hex")):
            codec = Codec(frame["sdkType"], gzip)
            data = bytes.fromhex(frame[name])
            request = frame["struct"].endswith("Req")
            decode = codec.decode_request if request else codec.decode_response
            assert vectors.shown(decode(data, vectors.LIMIT)) == vectors.golden_fields(frame["fields"])
