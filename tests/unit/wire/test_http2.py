"""A server's HTTP/2 connection, frame by frame, and with `h2` as its client."""

import h2.config
import h2.connection
import h2.errors
import h2.events
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.wire import http2_frames as wire
from adsum.wire.hpack import encode
from adsum.wire.http2 import ServerConnection
from adsum.wire.http2_frames import Code
from adsum.wire.http2_headers import MAX_CONTINUATIONS, MAX_REMEMBERED, MAX_REMEMBERED_BYTES, Block
from adsum.wire.http2_sending import MAX_LEFT
from adsum.wire.http2_streams import PATIENCE, Http2Limits, Stream
from tests.unit.wire.peer import OPENING, REQUEST, TRAILERS, Peer, body_of, fields_of

END_HEADERS, END_STREAM, PADDED = wire.END_HEADERS, wire.END_STREAM, wire.PADDED


def ends(peer: Peer, data: bytes) -> Code:
    """The error with which these bytes end the connection; what was open is reset, and nothing more is taken."""
    *_, last = peer.say(data)
    assert last.kind == wire.GOAWAY
    assert peer.server.failed
    assert not peer.server.sender.streams
    before = list(peer.log)
    assert peer.say(wire.frame(wire.PING, 0, 0, bytes(8))) == []
    assert peer.log == before
    return Code(last.code)


def resets(peer: Peer, data: bytes) -> Code:
    """The error with which these bytes end one stream; the connection goes on."""
    frames = peer.say(data)
    assert [frame.kind for frame in frames] == [wire.RST_STREAM]
    assert peer.server.failed is None
    (pong,) = peer.frame(wire.PING, 0, 0, b"8 bytes.")
    assert (pong.kind, pong.flags, pong.payload) == (wire.PING, wire.ACK, b"8 bytes.")
    return Code(frames[0].code)


class TestGreeting:
    def test_settings_are_told_and_acknowledged(self) -> None:
        peer = Peer(greet=False)
        settings, widening = peer.heard()
        assert wire.read_settings(settings.payload) == {3: 1_000, 4: 1 << 20, 6: 16_384}
        assert int.from_bytes(widening.payload, "big") == (8 << 20) - 65_535
        (acknowledged,) = peer.say(wire.PREFACE + wire.settings_frame([]))
        assert (acknowledged.kind, acknowledged.flags) == (wire.SETTINGS, wire.ACK)
        assert peer.server.greeted

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", b"\x16\x03\x01"])
    def test_another_protocol_is_refused(self, data: bytes) -> None:
        assert ends(Peer(greet=False), data) is Code.PROTOCOL_ERROR

    def test_settings_come_first(self) -> None:
        ping = wire.PREFACE + wire.frame(wire.PING, 0, 0, bytes(8))
        assert ends(Peer(greet=False), ping) is Code.PROTOCOL_ERROR

    def test_an_acknowledgement_is_no_greeting(self) -> None:
        acknowledged = wire.PREFACE + wire.frame(wire.SETTINGS, wire.ACK, 0)
        assert ends(Peer(greet=False), acknowledged) is Code.PROTOCOL_ERROR


class TestRequests:
    def test_a_request_without_a_body(self) -> None:
        peer = Peer()
        stream = peer.request()
        assert peer.log == [("opened", 1, True)]
        assert stream.head.path == b"/p"
        assert stream.head.fields == {b"te": b"trailers"}

    def test_a_body_in_pieces_with_padding(self) -> None:
        peer = Peer()
        peer.request(end=False)
        peer.data(b"one")
        peer.frame(wire.DATA, PADDED | END_STREAM, 1, b"\x03two" + bytes(3))
        assert peer.log[1:] == [("body", 1, b"one", False), ("body", 1, b"two", True)]

    def test_a_body_of_the_length_that_was_said(self) -> None:
        peer = Peer()
        peer.request(block=REQUEST + encode([(b"content-length", b"6")]), end=False)
        peer.data(b"one")
        peer.data(b"two", end=True)
        assert peer.log[1:] == [("body", 1, b"one", False), ("body", 1, b"two", True)]

    def test_blocks_are_read_alike_however_many_came_before(self) -> None:
        """What a block means is remembered, of a few short ones; each here comes twice, then all once more."""
        peer = Peer(answers=b"")
        paths = [b"/%d" % i for i in range(2 * MAX_REMEMBERED)] + [b"/" + b"x" * MAX_REMEMBERED_BYTES]
        for stream, path in enumerate([*(path for path in paths for _ in range(2)), *paths]):
            block = encode(((b":method", b"POST"), (b":scheme", b"http"), (b":path", path)))
            assert peer.request(2 * stream + 1, block).head.path == path
            peer.server.calm()

    def test_trailers_end_a_body(self) -> None:
        peer = Peer()
        peer.request(end=False)
        peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, encode([(b"x", b"y")]))
        assert peer.log[1:] == [("body", 1, b"", True)]

    @given(pieces=st.integers(1, 4), padding=st.integers(0, 20), priority=st.booleans())
    def test_a_header_block_in_any_pieces(self, pieces: int, padding: int, *, priority: bool) -> None:
        peer = Peer()
        size = -(-len(REQUEST) // pieces)
        parts = [REQUEST[i : i + size] for i in range(0, len(REQUEST), size)]
        flags = END_STREAM | PADDED | (END_HEADERS if len(parts) == 1 else 0)
        first = bytes((padding,)) + (bytes(5) if priority else b"") + parts[0] + bytes(padding)
        peer.frame(wire.HEADERS, flags | (wire.HAS_PRIORITY if priority else 0), 1, first)
        for i, part in enumerate(parts[1:], 2):
            peer.frame(wire.CONTINUATION, END_HEADERS if i == len(parts) else 0, 1, part)
        assert peer.log == [("opened", 1, True)]

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 17, 1_000])
    def test_any_split_of_the_bytes_gives_the_same(self, size: int) -> None:
        body = wire.frame(wire.DATA, 0, 1, b"a" * 300) + wire.frame(wire.DATA, END_STREAM, 1, b"b")
        request = wire.frame(wire.HEADERS, END_HEADERS, 1, REQUEST)
        data = wire.PREFACE + wire.settings_frame([(4, 100)]) + request + body + wire.frame(wire.PING, 0, 0, bytes(8))
        whole, split = Peer(greet=False, answers=b"z" * 50), Peer(greet=False, answers=b"z" * 50)
        whole.server.receive(data)
        for start in range(0, len(data), size):
            split.server.receive(data[start : start + size])
        assert split.log == whole.log
        assert len(whole.log) == 3
        assert split.server.take() == whole.server.take()

    @pytest.mark.parametrize(
        "fields",
        [
            [(b":method", b"POST"), (b":scheme", b"http")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"")],
            [(b":method", b"POST"), (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":status", b"200")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b"a", b"b"), (b":path", b"/")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"Upper", b"b")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"", b"b")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a b", b"b")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a\nb", b"b")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b\nc")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b\0")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b" b")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b\t")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"connection", b"close")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"te", b"gzip")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"content-length", b"-1x")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"content-length", b"5")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"content-length", b"-1")],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"content-length", b"9" * 5_000)],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), *[(b"content-length", b"0")] * 2],
            [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b" * 20_000)],
        ],
    )
    def test_a_malformed_request_is_reset(self, fields: list[tuple[bytes, bytes]]) -> None:
        peer = Peer(limits=Http2Limits(max_header_bytes=16_000))
        block = hpack.Encoder().encode(fields)
        parts = [block[i : i + 16_000] for i in range(0, len(block), 16_000)]
        assert len(parts) == 1
        frame = wire.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, parts[0])
        assert resets(peer, frame) is Code.PROTOCOL_ERROR
        assert peer.log == []
        peer.request(3)

    def test_values_may_have_spaces_and_any_bytes_inside(self) -> None:
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b c\td\xff"), (b"e", b"")]
        assert Peer().request(1, encode(fields)).fields == {b"a": b"b c\td\xff", b"e": b""}

    def test_the_size_of_all_fields_is_bounded(self) -> None:
        """However few bytes they take on the wire."""
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), *[(b"a", b"b" * 100)] * 200]
        block = hpack.Encoder().encode(fields)
        assert len(block) < 1_000
        frame = wire.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, block)
        assert resets(Peer(), frame) is Code.PROTOCOL_ERROR

    def test_a_header_over_the_limit_may_be_told_so_on_its_stream_alone(self) -> None:
        """As sent it takes more than one frame; the table follows all of it, and no field of it is kept."""
        peer = Peer()
        said = Block(b"/too-large", b"", {}, (), -1, 0)
        peer.server = ServerConnection(peer, lambda block: block, peer.limits, said)
        peer.say(wire.PREFACE + wire.settings_frame(()))
        first = peer.request(1, end=False)
        encoder = hpack.Encoder()
        block = REQUEST + encoder.encode([(b"a", b"x" * 9_000), (b"b", b"x" * 11_000), (b"c", b"late")])
        assert len(block) > wire.MAX_FRAME_BYTES
        peer.frame(wire.HEADERS, END_STREAM, 3, block[:16_000])
        peer.frame(wire.CONTINUATION, END_HEADERS, 3, block[16_000:])
        assert (peer.streams[3].head, peer.streams[3].fields) == (said, {})
        assert peer.request(5, REQUEST + encoder.encode([(b"c", b"late")])).fields == {b"c": b"late"}
        assert peer.data(b"x", end=True) == []
        assert first.ended

    def test_what_open_streams_take_is_told_and_given_back(self) -> None:
        peer = Peer(answers=b"hello")
        sender = peer.server.sender
        for stream in (1, 3):
            peer.request(stream, REQUEST + encode([(b"a", b"b" * 5_000)]), end=False)
        assert sender.kept_bytes == sum(stream.kept_bytes for stream in sender.streams.values()) > 10_000
        peer.data(b"", 1, end=True)
        peer.frame(wire.RST_STREAM, 0, 3, bytes(4))
        assert (sender.streams, sender.kept_bytes) == ({}, 0)

    def test_a_header_that_grows_a_thousandfold_ends_the_connection(self) -> None:
        """A field of the table by one byte, again and again."""
        peer = Peer()
        peer.request(block=REQUEST + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4_000)
        bomb = wire.frame(wire.HEADERS, END_HEADERS | END_STREAM, 3, REQUEST + b"\xbe" * 16_000)
        assert ends(peer, bomb) is Code.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize(("sent", "ended"), [(b"1234", True), (b"123456", False)])
    def test_a_body_of_another_length_than_told_is_reset(self, sent: bytes, *, ended: bool) -> None:
        peer = Peer()
        peer.request(block=REQUEST + encode([(b"content-length", b"5")]), end=False)
        assert resets(peer, wire.frame(wire.DATA, int(ended), 1, sent)) is Code.PROTOCOL_ERROR
        assert peer.log[-1] == ("reset", 1)

    def test_too_many_streams_are_refused_and_the_table_stays_in_step(self) -> None:
        peer, encoder = Peer(limits=Http2Limits(max_streams=2)), hpack.Encoder()
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p")]
        for stream in (1, 3):
            peer.request(stream, encoder.encode(fields), end=False)
        refused = wire.frame(wire.HEADERS, END_HEADERS, 5, encoder.encode([*fields, (b"new", b"field")]))
        assert resets(peer, refused) is Code.REFUSED_STREAM
        peer.frame(wire.RST_STREAM, 0, 1, bytes(4))
        assert peer.request(7, encoder.encode([*fields, (b"new", b"field")])).fields == {b"new": b"field"}

    def test_what_comes_late_on_a_refused_stream_is_ignored(self) -> None:
        peer = Peer(limits=Http2Limits(max_streams=1))
        peer.request(1, end=False)
        peer.frame(wire.HEADERS, END_HEADERS, 3, REQUEST)
        assert peer.data(b"late", 3) == []
        assert peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 3, encode([(b"x", b"y")])) == []
        assert peer.server.failed is None

    def test_streams_left_early_are_remembered_up_to_a_number(self) -> None:
        peer = Peer(limits=Http2Limits(max_streams=0))
        for stream in range(1, 4 * MAX_LEFT, 2):
            peer.frame(wire.HEADERS, END_HEADERS, stream, REQUEST)
            peer.server.calm()
        assert len(peer.server.sender.left) == MAX_LEFT


class TestAnswers:
    def test_an_answer_at_once(self) -> None:
        peer = Peer(answers=b"hello")
        head, body, trailers = peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)
        assert (head.kind, head.flags, head.payload) == (wire.HEADERS, END_HEADERS, OPENING)
        assert (body.kind, body.flags, body.payload) == (wire.DATA, 0, b"hello")
        assert (trailers.kind, trailers.flags) == (wire.HEADERS, END_HEADERS | END_STREAM)
        assert fields_of(trailers.payload) == {b"grpc-status": b"0"}
        assert not peer.server.sender.streams

    def test_many_answers_in_one_piece(self) -> None:
        peer = Peer(answers=b"x")
        data = b"".join(wire.frame(wire.HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, REQUEST) for i in range(100))
        assert len(peer.say(data)) == 300

    @pytest.mark.parametrize("window", [0, 1, 7, 65_535])
    def test_a_large_answer_waits_for_windows(self, window: int) -> None:
        """It never exceeds either window or the frame size, and arrives whole."""
        peer = Peer(settings=((wire.INITIAL_WINDOW, window),), answers=bytes(range(256)) * 400)
        frames = peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)
        got = [body_of(frames)]
        assert len(got[0]) == min(window, 65_535)
        for size in (10_000, 1, 200_000):
            got += (body_of(peer.widen(size, 1)), body_of(peer.widen(size)))
        assert b"".join(got) == bytes(range(256)) * 400
        assert not peer.server.sender.streams

    def test_each_window_bounds_what_is_sent(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 40_000),), answers=b"x" * 100_000)
        sent = peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)
        assert [len(frame.payload) for frame in sent if frame.kind == wire.DATA] == [16_384, 16_384, 7_232]
        assert len(body_of(peer.widen(50_000, 1))) == 25_535
        assert len(body_of(peer.widen(10_000))) == 10_000
        assert len(body_of(peer.widen(1 << 20))) == 14_465
        assert len(body_of(peer.widen(1 << 20, 1))) == 10_000

    def test_a_window_may_shrink_below_nothing(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 100),), answers=b"x" * 150)
        assert len(body_of(peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, REQUEST))) == 100
        assert body_of(peer.say(wire.settings_frame([(wire.INITIAL_WINDOW, 60)]))) == b""
        assert body_of(peer.widen(40, 1)) == b""
        assert body_of(peer.widen(10, 1)) == b"x" * 10
        assert body_of(peer.say(wire.settings_frame([(wire.INITIAL_WINDOW, 200)]))) == b"x" * 40

    def test_streams_share_the_connections_window_by_turns(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 1 << 20),), answers=b"x" * 100_000)
        for stream in (1, 3):
            peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, stream, REQUEST)
        got = [peer.widen(1_000) for _ in range(4)]
        assert [len(body_of(frames, 1)) for frames in got] == [1_000, 0, 1_000, 0]
        assert [len(body_of(frames, 3)) for frames in got] == [0, 1_000, 0, 1_000]

    def test_nothing_is_sent_to_who_does_not_read(self) -> None:
        peer = Peer(answers=b"hello")
        peer.server.sender.hold()
        assert body_of(peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)) == b""
        assert peer.widen(100, 1) == []
        peer.server.sender.let_go()
        assert body_of(peer.heard()) == b"hello"

    def test_answers_nobody_takes_are_bounded(self) -> None:
        """Those past the bound are reset; those that wait are whole once they are taken."""
        limits = Http2Limits(max_unsent_bytes=1_000)
        peer = Peer(limits=limits, settings=((wire.INITIAL_WINDOW, 0),), answers=b"x" * 400)
        frames = [peer.frame(wire.HEADERS, END_HEADERS | END_STREAM, stream, REQUEST) for stream in (1, 3, 5, 7)]
        assert [[f.code for f in sent if f.kind == wire.RST_STREAM] for sent in frames] == [[], [], [11], [11]]
        assert [entry for entry in peer.log if entry[0] == "reset"] == [("reset", 5), ("reset", 7)]
        assert [len(body_of(peer.widen(400, stream), stream)) for stream in (1, 3, 5)] == [400, 400, 0]

    def test_an_answer_before_the_request_is_whole(self) -> None:
        """Ends with RST_STREAM(NO_ERROR), so that the client stops sending."""
        peer = Peer()
        stream = peer.request(end=False)
        peer.server.sender.end(stream, TRAILERS)
        trailers, reset = peer.heard()
        assert trailers.flags & END_STREAM
        assert (reset.kind, reset.code) == (wire.RST_STREAM, Code.NO_ERROR)
        assert peer.data(b"late", end=True) == []

    def test_what_had_to_wait_is_told_when_it_is_sent(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 1),))
        stream = peer.request()
        peer.server.sender.open(stream, OPENING)
        peer.server.sender.send(stream, b"abc")
        peer.server.sender.send(stream, b"de")
        assert ("drained", 1) not in peer.log
        assert body_of([*peer.heard(), *peer.widen(10, 1)]) == b"abcde"
        assert peer.log[-1] == ("drained", 1)

    def test_what_fits_all_windows_goes_out_at_once(self) -> None:
        peer = Peer()
        stream = peer.request()
        peer.server.sender.open(stream, OPENING)
        peer.server.sender.send(stream, b"abc")
        assert body_of(peer.heard()) == b"abc"
        assert ("drained", 1) not in peer.log

    def test_who_hears_that_one_was_sent_may_end_another_that_waits(self) -> None:
        class Single(Peer):
            def drained(self, stream: Stream[Block]) -> None:
                super().drained(stream)
                self.server.sender.drop(self.streams[3], Code.CANCEL)

        peer = Single()
        peer.server.sender.hold()
        for stream in (peer.request(1), peer.request(3)):
            peer.server.sender.open(stream, OPENING)
            peer.server.sender.send(stream, b"x")
        peer.server.sender.let_go()
        frames = peer.heard()
        assert (body_of(frames, 1), body_of(frames, 3)) == (b"x", b"")
        assert [frame.stream for frame in frames if frame.kind == wire.RST_STREAM] == [3]
        assert (peer.server.sender._waiting, peer.kept_bytes) == ({}, 0)

    def test_nothing_goes_out_on_a_stream_that_was_reset(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 0),))
        stream = peer.request()
        peer.frame(wire.RST_STREAM, 0, 1, bytes(4))
        sender = peer.server.sender
        sender.open(stream, OPENING)
        sender.send(stream, b"late")
        sender.end(stream, TRAILERS)
        for late in (b"late", b""):
            sender.answer(stream, OPENING, late, TRAILERS)
        sender.drop(stream, Code.CANCEL)
        assert peer.heard() == []
        assert (sender._unsent_bytes, sender._waiting, peer.kept_bytes) == (0, {}, 0)

    def test_what_waits_is_told_and_not_kept_with_what_was_sent(self) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 0),), answers=b"x" * 60_000)
        stream = peer.request()
        assert peer.kept_bytes == 60_000
        peer.widen(59_999, 1)
        assert peer.kept_bytes == 1
        assert len(stream.unsent.obj) == 1  # type: ignore[arg-type]  # its bytes
        peer.frame(wire.RST_STREAM, 0, 1, bytes(4))
        assert peer.kept_bytes == 0

    def test_long_trailers_go_in_several_frames(self) -> None:
        peer = Peer()
        block = encode([(b"x", b"y" * 40_000)])
        peer.server.sender.end(peer.request(), block)
        frames = peer.heard()
        assert [frame.kind for frame in frames] == [wire.HEADERS, wire.CONTINUATION, wire.CONTINUATION]
        assert [frame.flags for frame in frames] == [END_STREAM, 0, END_HEADERS]
        assert b"".join(frame.payload for frame in frames) == block


class TestRoom:
    def test_what_was_taken_is_given_back(self) -> None:
        """Of the connection and of a stream, padding included, once half of it is used up."""
        peer = Peer(limits=Http2Limits(stream_window=70_000, connection_window=100_000))
        peer.request(end=False)
        given = [f for _ in range(20) for f in peer.frame(wire.DATA, PADDED, 1, b"\xff" + b"x" * 9_744 + bytes(255))]
        by_stream = {s: sum(int.from_bytes(f.payload, "big") for f in given if f.stream == s) for s in (0, 1)}
        assert 150_000 <= by_stream[0] <= 200_000
        assert 165_000 <= by_stream[1] <= 200_000
        assert all(frame.kind == wire.WINDOW_UPDATE for frame in given)

    def test_a_receiver_may_give_back_what_it_has_taken_itself(self) -> None:
        peer = Peer(limits=Http2Limits(stream_window=30_000))
        stream = peer.request(end=False)
        stream.gives_back = True
        assert peer.data(bytes(16_000)) == []
        peer.server.give_back(stream, 16_000)
        (given,) = peer.heard()
        assert (given.stream, int.from_bytes(given.payload, "big")) == (1, 16_000)
        peer.data(bytes(16_000))
        assert resets(peer, wire.frame(wire.DATA, 0, 1, bytes(15_000))) is Code.FLOW_CONTROL_ERROR

    def test_a_stream_over_its_window_is_reset(self) -> None:
        peer = Peer(limits=Http2Limits(stream_window=30_000))
        peer.request(end=False)
        peer.server._stream_window = 1 << 20  # so that nothing is given back
        peer.data(bytes(16_000))
        assert resets(peer, wire.frame(wire.DATA, 0, 1, bytes(16_000))) is Code.FLOW_CONTROL_ERROR

    def test_a_connection_over_its_window_ends(self) -> None:
        peer = Peer()
        peer.request(end=False)
        peer.server._room = 10
        assert ends(peer, wire.frame(wire.DATA, 0, 1, bytes(11))) is Code.FLOW_CONTROL_ERROR


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return wire.frame(kind, flags, stream, payload)


WHOLE = END_HEADERS | END_STREAM
BROKEN: dict[str, tuple[bytes, Code]] = {
    "frame too large": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", Code.FRAME_SIZE_ERROR),
    "data on stream 0": (frame(wire.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data on an idle stream": (frame(wire.DATA, 0, 9, b"x"), Code.PROTOCOL_ERROR),
    "more padding than data": (frame(wire.DATA, PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
    "padding without its length": (frame(wire.DATA, PADDED, 1), Code.PROTOCOL_ERROR),
    "headers on stream 0": (frame(wire.HEADERS, WHOLE, 0, REQUEST), Code.PROTOCOL_ERROR),
    "headers on an even stream": (frame(wire.HEADERS, WHOLE, 2, REQUEST), Code.PROTOCOL_ERROR),
    "headers too short": (frame(wire.HEADERS, WHOLE | wire.HAS_PRIORITY, 5, b"x"), Code.FRAME_SIZE_ERROR),
    "headers on a closed stream": (frame(wire.HEADERS, WHOLE, 3, REQUEST), Code.STREAM_CLOSED),
    "headers undecodable": (frame(wire.HEADERS, WHOLE, 5, b"\x80"), Code.COMPRESSION_ERROR),
    "continuation of nothing": (frame(wire.CONTINUATION, 0, 1), Code.PROTOCOL_ERROR),
    "headers interrupted": (frame(wire.HEADERS, 0, 5, b"\x82") + frame(wire.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "continuation elsewhere": (
        frame(wire.HEADERS, 0, 5, b"\x82") + frame(wire.CONTINUATION, END_HEADERS, 1),
        Code.PROTOCOL_ERROR,
    ),
    "priority of stream 0": (frame(wire.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "reset of a bad length": (frame(wire.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    "reset of an idle stream": (frame(wire.RST_STREAM, 0, 9, bytes(4)), Code.PROTOCOL_ERROR),
    "settings of a bad length": (frame(wire.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(wire.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "acknowledgement with a payload": (frame(wire.SETTINGS, wire.ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "push neither on nor off": (wire.settings_frame([(2, 2)]), Code.PROTOCOL_ERROR),
    "initial window too large": (wire.settings_frame([(4, 1 << 31)]), Code.FLOW_CONTROL_ERROR),
    "frame size too small": (wire.settings_frame([(5, 16_383)]), Code.PROTOCOL_ERROR),
    "frame size too large": (wire.settings_frame([(5, 1 << 24)]), Code.PROTOCOL_ERROR),
    "push promise": (frame(wire.PUSH_PROMISE, END_HEADERS, 1, bytes(4) + REQUEST), Code.PROTOCOL_ERROR),
    "ping of a bad length": (frame(wire.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "ping of a stream": (frame(wire.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "goaway of a stream": (frame(wire.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "goaway too short": (frame(wire.GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "window by nothing": (wire.widening_frame(0, 0), Code.PROTOCOL_ERROR),
    "window too large": (wire.widening_frame(0, wire.MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
    "window of an idle stream": (wire.widening_frame(9, 1), Code.PROTOCOL_ERROR),
    "window of a bad length": (frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    "a stream's window by settings": (
        wire.widening_frame(1, wire.MAX_WINDOW - 65_535) + wire.settings_frame([(4, 65_536)]),
        Code.FLOW_CONTROL_ERROR,
    ),
}

BROKEN_STREAM: dict[str, tuple[bytes, Code]] = {
    "data on a closed stream": (frame(wire.DATA, 0, 3, b"x"), Code.STREAM_CLOSED),
    "headers that don't end the body": (frame(wire.HEADERS, END_HEADERS, 1, REQUEST), Code.PROTOCOL_ERROR),
    "trailers that are a request": (frame(wire.HEADERS, WHOLE, 1, REQUEST), Code.PROTOCOL_ERROR),
    "a request that depends on itself": (
        frame(wire.HEADERS, WHOLE | wire.HAS_PRIORITY, 7, b"\0\0\0\x07\0" + REQUEST),
        Code.PROTOCOL_ERROR,
    ),
    "priority of a bad length": (frame(wire.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "priority on itself": (frame(wire.PRIORITY, 0, 1, b"\0\0\0\x01\0"), Code.PROTOCOL_ERROR),
    "a stream's window by nothing": (wire.widening_frame(1, 0), Code.PROTOCOL_ERROR),
    "a stream's window too large": (wire.widening_frame(1, wire.MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
}


class TestViolations:
    """With stream 1 open, and stream 3 ended."""

    @pytest.fixture
    def peer(self) -> Peer:
        peer = Peer()
        peer.request(1, end=False)
        peer.server.sender.end(peer.request(3), TRAILERS)
        peer.heard()
        return peer

    @pytest.mark.parametrize("name", BROKEN)
    def test_the_connection_ends_with_the_right_code(self, peer: Peer, name: str) -> None:
        data, code = BROKEN[name]
        assert ends(peer, data) is code
        assert peer.log[-1] == ("reset", 1)

    def test_a_connection_ends_once(self, peer: Peer) -> None:
        """Whoever else finds a reason afterwards, such as its receiver, changes nothing."""
        assert ends(peer, frame(wire.PING, 0, 1, bytes(8))) is Code.PROTOCOL_ERROR
        reason = peer.server.failed
        peer.server.fail(Code.ENHANCE_YOUR_CALM, "too much")
        assert (peer.server.failed, peer.server.flooded, peer.heard()) == (reason, False, [])

    @pytest.mark.parametrize("name", BROKEN_STREAM)
    def test_the_stream_ends_with_the_right_code(self, peer: Peer, name: str) -> None:
        data, code = BROKEN_STREAM[name]
        assert resets(peer, data) is code

    def test_data_after_the_end_of_a_request_is_a_stream_error(self, peer: Peer) -> None:
        peer.request(5)
        assert resets(peer, frame(wire.DATA, 0, 5, b"x")) is Code.STREAM_CLOSED
        assert peer.log[-1] == ("reset", 5)

    def test_so_are_trailers(self, peer: Peer) -> None:
        peer.request(5)
        assert resets(peer, frame(wire.HEADERS, WHOLE, 5, encode([(b"x", b"y")]))) is Code.STREAM_CLOSED
        assert peer.log[-1] == ("reset", 5)

    def test_what_means_nothing_here_is_ignored(self, peer: Peer) -> None:
        for data in (
            frame(0x42, 0xFF, 1, b"unknown"),
            frame(wire.PRIORITY, 0, 1, bytes(5)),
            frame(wire.PRIORITY, 0, 99, bytes(5)),
            frame(wire.GOAWAY, 0, 0, bytes(8)),
            frame(wire.PING, wire.ACK, 0, bytes(8)),
            frame(wire.SETTINGS, wire.ACK),
            wire.widening_frame(3, 5),
            frame(wire.RST_STREAM, 0, 3, bytes(4)),
        ):
            assert peer.say(data) == []
        assert list(peer.server.sender.streams) == [1]

    @given(st.binary(max_size=400))
    def test_any_bytes_are_taken_or_end_the_connection(self, data: bytes) -> None:
        peer = Peer()
        peer.request(1, end=False)
        peer.say(data)

    @given(
        st.lists(
            st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=20
        )
    )
    def test_any_frames_leave_streams_and_windows_in_order(self, sent: list[tuple[int, int, int, bytes]]) -> None:
        peer = Peer(settings=((wire.INITIAL_WINDOW, 3),), answers=b"hello")
        for kind, flags, stream, payload in sent:
            peer.say(frame(kind, flags, stream, REQUEST if kind == wire.HEADERS and not flags & 0x28 else payload))
        sender = peer.server.sender
        assert sender._unsent_bytes == sum(len(stream.unsent) for stream in sender.streams.values())
        assert set(sender._waiting) == {stream.id for stream in sender.streams.values() if stream.unsent}


FLOODS = {
    "pings": frame(wire.PING, 0, 0, bytes(8)),
    "settings": wire.settings_frame([]),
    "empty data": frame(wire.DATA, 0, 1),
    "data of a byte": frame(wire.DATA, 0, 1, b"x"),
    "priorities": frame(wire.PRIORITY, 0, 1, bytes(5)),
    "unknown frames": frame(0x42),
    "windows": wire.widening_frame(0, 1),
}


class TestFloods:
    @pytest.mark.parametrize("name", FLOODS)
    def test_frames_that_ask_nothing_are_bounded(self, name: str) -> None:
        peer = Peer()
        peer.request(1, end=False)
        for _ in range(2):
            peer.say(FLOODS[name] * (PATIENCE - 10))
            peer.server.calm()
        assert peer.server.failed is None
        assert ends(peer, FLOODS[name] * (PATIENCE + 1)) is Code.ENHANCE_YOUR_CALM

    def test_a_body_in_full_frames_is_none(self) -> None:
        peer = Peer()
        peer.request(1, end=False)
        for _ in range(3 * PATIENCE):
            peer.say(frame(wire.DATA, 0, 1, bytes(1_024)))
        assert peer.server.failed is None

    def test_what_came_is_taken_bit_by_bit(self) -> None:
        """After each frame it may be late; no frame is lost or comes twice, also if more came in the end."""
        whole, slow, looks = Peer(answers=b"a"), Peer(answers=b"a"), iter(range(10_000))
        requests = b"".join(
            frame(wire.HEADERS, wire.END_HEADERS, stream, REQUEST) + frame(wire.DATA, wire.END_STREAM, stream, b"b")
            for stream in range(1, 101, 2)
        )
        whole.say(requests)
        cut = len(requests) - 5
        late = slow.server.receive(requests[:cut], lambda: next(looks), 0)
        turns = 1
        while late:
            late = slow.server.receive(b"", lambda: next(looks), 0)
            turns += 1
        assert turns == 100, "a frame each, and the piece of one"
        slow.say(requests[cut:])
        assert slow.log == whole.log

    def test_requests_that_are_taken_back_are_bounded(self) -> None:
        """The rapid reset attack, CVE-2023-44487."""
        peer, stream = Peer(), 1
        while peer.server.failed is None:
            reset = frame(wire.RST_STREAM, 0, stream, bytes(4))
            peer.say(frame(wire.HEADERS, END_HEADERS, stream, REQUEST) + reset)
            stream += 2
        assert stream < 2 * PATIENCE + 10
        assert not peer.server.sender.streams

    def test_all_that_may_be_open_may_be_taken_back_at_once(self) -> None:
        """And again a second later, as when a store stands still."""
        limits = Http2Limits(max_streams=3_000)
        peer, first = Peer(limits=limits), 1
        for _ in range(3):
            streams = range(first, first + 6_000, 2)
            for stream in streams:
                peer.frame(wire.HEADERS, END_HEADERS, stream, REQUEST)
            peer.say(b"".join(frame(wire.RST_STREAM, 0, stream, bytes(4)) for stream in streams))
            peer.server.calm()
            first += 6_000
        assert peer.server.failed is None
        assert not peer.server.sender.streams

    def test_settings_that_change_the_windows_of_many_are_bounded(self) -> None:
        """Each costs as much as there are streams; the window that shrinks sends nothing."""
        peer = Peer(answers=b"xx", settings=((wire.INITIAL_WINDOW, 0),))
        for stream in range(1, 1_601, 2):
            peer.frame(wire.HEADERS, WHOLE, stream, REQUEST)
        assert ends(peer, b"".join(wire.settings_frame([(4, i % 2)]) for i in range(PATIENCE // 40))) is (
            Code.ENHANCE_YOUR_CALM
        )

    def test_requests_that_we_are_made_to_reset_are_bounded(self) -> None:
        """CVE-2025-8671: the client breaks the protocol on a stream rather than take it back."""
        peer, stream = Peer(), 1
        while peer.server.failed is None:
            peer.say(frame(wire.HEADERS, END_HEADERS, stream, REQUEST) + wire.widening_frame(stream, 0))
            stream += 2
        assert stream < 2 * PATIENCE + 10

    def test_a_thousand_requests_under_way_pay_for_their_windows(self) -> None:
        """Clients on gRPC's C core widen the window of each."""
        peer = Peer()
        for stream in range(1, 2_000, 2):
            peer.frame(wire.HEADERS, END_HEADERS, stream, REQUEST)
            peer.widen(1, stream)
            peer.widen(1)
        assert peer.server.failed is None

    def test_requests_that_are_malformed_are_bounded(self) -> None:
        peer, stream = Peer(), 1
        while peer.server.failed is None:
            peer.frame(wire.HEADERS, WHOLE, stream, encode([(b":path", b"/")]))
            stream += 2
        assert stream < 2 * PATIENCE + 10

    def test_requests_pay_for_the_pings_of_a_client_that_measures(self) -> None:
        peer = Peer(answers=b"x", settings=((wire.INITIAL_WINDOW, 1 << 20),))
        for stream in range(1, 8 * PATIENCE, 2):
            peer.frame(wire.PING, 0, 0, bytes(8))
            peer.frame(wire.HEADERS, WHOLE, stream, REQUEST)
            peer.widen(1)
        assert peer.server.failed is None

    def test_a_reader_bit_by_bit_is_stopped(self) -> None:
        peer = Peer(answers=b"x" * 100_000, settings=((wire.INITIAL_WINDOW, 0),))
        peer.frame(wire.HEADERS, WHOLE, 1, REQUEST)
        assert ends(peer, wire.widening_frame(1, 1) * (PATIENCE + 1)) is Code.ENHANCE_YOUR_CALM

    def test_a_header_block_without_end_is_stopped(self) -> None:
        """CVE-2024-27316: CONTINUATION frames, be they empty."""
        peer = Peer()
        flood = frame(wire.CONTINUATION, 0, 1) * (MAX_CONTINUATIONS + 1)
        assert ends(peer, frame(wire.HEADERS, 0, 1, REQUEST) + flood) is Code.ENHANCE_YOUR_CALM

    def test_a_header_block_too_large_is_stopped(self) -> None:
        peer = Peer(limits=Http2Limits(most_header_bytes=20_000))
        large = frame(wire.HEADERS, 0, 1, bytes(16_000)) + frame(wire.CONTINUATION, 0, 1, bytes(5_000))
        assert ends(peer, large) is Code.ENHANCE_YOUR_CALM


class TestLeaving:
    def test_what_is_under_way_goes_on_and_what_is_new_is_refused(self) -> None:
        peer = Peer()
        stream = peer.request(1)
        peer.server.leave()
        peer.server.leave()
        (goaway,) = peer.heard()
        assert (goaway.code, goaway.payload[:4]) == (Code.NO_ERROR, b"\0\0\0\x01")
        assert resets(peer, frame(wire.HEADERS, WHOLE, 3, REQUEST)) is Code.REFUSED_STREAM
        peer.server.sender.answer(stream, OPENING, b"hello", TRAILERS)
        assert body_of(peer.heard()) == b"hello"

    def test_the_last_request_taken_never_grows(self) -> None:
        """Clients send those after it again elsewhere."""
        peer = Peer()
        peer.request(1)
        peer.server.leave()
        peer.frame(wire.HEADERS, WHOLE, 9, REQUEST)
        peer.server.leave()
        *_, goaway = peer.frame(wire.HEADERS, WHOLE, 2, REQUEST)
        assert (goaway.kind, goaway.payload[:4]) == (wire.GOAWAY, b"\0\0\0\x01")


def test_h2_as_a_client_is_answered_whatever_its_windows() -> None:
    """Requests and answers of 300 KiB, several at a time, in both directions through small windows."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5_000})
    peer = Peer(greet=False, answers=b"y" * 300_000)
    left = {}
    got: dict[int, int] = {}
    ended: set[int] = set()
    for stream in (1, 3, 5):
        client.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "a")])
        left[stream], got[stream] = 300_000, 0
    while len(ended) < 3:
        for stream in (1, 3, 5):
            while size := min(left[stream], client.local_flow_control_window(stream), 16_384):
                left[stream] -= size
                client.send_data(stream, b"x" * size, end_stream=not left[stream])
        peer.server.receive(client.data_to_send())
        peer.server.calm()
        for event in client.receive_data(peer.server.take()):
            if isinstance(event, h2.events.DataReceived):
                got[event.stream_id] += len(event.data)
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
            assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)
    assert got == {1: 300_000, 3: 300_000, 5: 300_000}
    assert peer.server.failed is None
