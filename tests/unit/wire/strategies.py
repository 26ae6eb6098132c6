"""Messages to test with."""

from hypothesis import strategies as st

from adsum.wire.messages import Request, Response

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["", "u1", "x" * 130])
payloads = st.binary(max_size=40) | st.sampled_from([b"", b"\0" * 127, b"\1" * 128, b"\2" * 70_000])
int32s = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 63, 64, -64, -65, 2005])
int64s = st.integers(-(2**63), 2**63 - 1) | int32s

requests = st.builds(Request, int32s, texts, texts, texts, texts, payloads)
responses = st.builds(Response, int32s, texts, texts, int64s, texts, payloads)
