"""Tokens: each thing that can be wrong has its own error, and nothing of a token is ever told."""

import json
import warnings
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from hmac import digest as sign

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.adapters.tokens import MAX_TOKEN_BYTES, JwtAuthenticator
from adsum.domain.errors import (
    ArgumentError,
    TokenError,
    TokenExpired,
    TokenMalformed,
    TokenNotValidYet,
    TokenUnknown,
)

SECRET = "openIM123"
NOW_S = 1_700_000_000
LEEWAY_MS = 2_000
GOOD: dict[str, object] = {"UserID": "alice", "PlatformID": 2, "exp": NOW_S + 60, "iat": NOW_S - 60}


def segment(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def make(payload: bytes, header: bytes = b'{"alg":"HS256","typ":"JWT"}', secret: str = SECRET) -> str:
    """A token made without the library, so that anything can be in it."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(sign(secret.encode(), signed.encode(), sha256))}"


def token_of(claims: dict[str, object], **changes: object) -> str:
    merged = {name: value for name, value in (claims | changes).items() if value is not ...}
    return make(json.dumps(merged).encode())


def unusual(token: str) -> str:
    """The same token with another good header, which takes the other way through the code."""
    payload = token.split(".")[1]
    return make(urlsafe_b64decode(payload + "=="), b'{"typ":"JWT","alg":"HS256"}')


@pytest.fixture
def authenticator() -> JwtAuthenticator:
    return JwtAuthenticator(SECRET, LEEWAY_MS, lambda: NOW_S)


def code_of(authenticator: JwtAuthenticator, token: str) -> int:
    with pytest.raises(TokenError) as caught:
        authenticator.verify(token)
    # No part of a token but its dots may be told, nor stay reachable in a chain of errors.
    assert all(part not in str(caught.value) for part in token.split(".") if len(part) > 8)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.code


def test_an_issued_token_proves_its_identity(authenticator: JwtAuthenticator) -> None:
    identity = authenticator.verify(authenticator.issue("alice", 5, 90_000))
    assert (identity.user_id, identity.platform_id) == ("alice", 5)
    assert identity.expires_ms == (NOW_S + 90) * 1000


def test_a_token_is_readable_by_others() -> None:
    token = JwtAuthenticator(SECRET, 0, lambda: NOW_S).issue("алиса", 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of the key, which is OpenIM's
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
    assert claims == {"UserID": "алиса", "PlatformID": 1, "exp": NOW_S + 1, "iat": NOW_S}


def test_the_digest_tells_tokens_apart_and_knows_them_again(authenticator: JwtAuthenticator) -> None:
    one, other = token_of(GOOD), token_of(GOOD, jti="x")
    assert authenticator.verify(one).digest == JwtAuthenticator(SECRET, 0, lambda: NOW_S).verify(one).digest
    assert authenticator.verify(one).digest != authenticator.verify(other).digest
    assert len(authenticator.verify(one).digest) == 16


def test_another_secret_can_be_used_from_now_on(authenticator: JwtAuthenticator) -> None:
    old, new = token_of(GOOD), make(json.dumps(GOOD).encode(), secret="the next")
    authenticator.use("the next")
    assert authenticator.verify(new).user_id == authenticator.verify(unusual_by("the next")).user_id == "alice"
    assert code_of(authenticator, old) == TokenUnknown.code
    with pytest.raises(ArgumentError):
        authenticator.use("")
    assert authenticator.verify(new).user_id == "alice"


def unusual_by(secret: str) -> str:
    return make(json.dumps(GOOD).encode(), b'{"typ":"JWT","alg":"HS256"}', secret)


def test_a_short_secret_makes_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = JwtAuthenticator("x")
        short.verify(short.issue("alice", 1, 1_000_000))


@pytest.mark.parametrize("secret", ["", "-----BEGIN PUBLIC KEY-----\nMFk=\n-----END PUBLIC KEY-----", '{"kty":"oct"}'])
def test_what_cannot_be_a_secret_is_refused(secret: str) -> None:
    with pytest.raises(ArgumentError, match="the secret cannot be an HS256 key") as caught:
        JwtAuthenticator(secret)
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expires_ms"),
    [
        ({"exp": ...}, 0),
        ({"exp": NOW_S + 1.5}, NOW_S * 1000 + 1500),
        ({"exp": 1e300}, 2**40 * 1000),
        ({"iat": ...}, (NOW_S + 60) * 1000),
        ({"PlatformID": 10, "nbf": NOW_S, "more": [1]}, (NOW_S + 60) * 1000),
        ({"exp": NOW_S - 1, "nbf": NOW_S + 2}, (NOW_S - 1) * 1000),
        ({"iat": NOW_S + 1}, (NOW_S + 60) * 1000),
        ({"iat": NOW_S + 1_000_000}, (NOW_S + 60) * 1000),
        ({"iat": "yesterday"}, (NOW_S + 60) * 1000),
    ],
)
def test_good_tokens(authenticator: JwtAuthenticator, changes: dict[str, object], expires_ms: int) -> None:
    token = token_of(GOOD, **changes)
    usual, other = authenticator.verify(token), authenticator.verify(unusual(token))
    assert usual.expires_ms == other.expires_ms == expires_ms
    assert (usual.user_id, usual.platform_id) == (other.user_id, other.platform_id)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"exp": NOW_S - 2}, TokenExpired),
        ({"exp": 0}, TokenExpired),
        ({"exp": -1e300}, TokenExpired),
        ({"exp": "soon"}, TokenMalformed),
        ({"exp": True}, TokenMalformed),
        ({"nbf": NOW_S + 3}, TokenNotValidYet),
        ({"nbf": []}, TokenMalformed),
        ({"UserID": ...}, TokenMalformed),
        ({"UserID": ""}, TokenMalformed),
        ({"UserID": 7}, TokenMalformed),
        ({"PlatformID": ...}, TokenMalformed),
        ({"PlatformID": "2"}, TokenMalformed),
        ({"PlatformID": 2.0}, TokenMalformed),
        ({"PlatformID": True}, TokenMalformed),
        ({"UserID": ..., "userid": "alice"}, TokenMalformed),
    ],
)
def test_bad_claims(authenticator: JwtAuthenticator, changes: dict[str, object], error: type[TokenError]) -> None:
    token = token_of(GOOD, **changes)
    assert code_of(authenticator, token) == code_of(authenticator, unusual(token)) == error.code


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b'{"UserID":"\xff","PlatformID":1}',
        b'{"UserID":"\\ud800","PlatformID":1}',
        b'{"UserID":"a","PlatformID":1,"exp":NaN}',
        b'{"UserID":"a","PlatformID":1,"exp":1e999}',
        b'{"UserID":"a","PlatformID":1,"x":' + b"[" * 5000,
    ],
)
def test_bad_payloads(authenticator: JwtAuthenticator, payload: bytes) -> None:
    token = make(payload)
    assert code_of(authenticator, token) == code_of(authenticator, unusual(token)) == TokenMalformed.code


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b'{"alg":"none"}', TokenUnknown),
        (b'{"alg":"HS512"}', TokenUnknown),
        (b'{"alg":"RS256"}', TokenUnknown),
        (b'{"alg":["HS256"]}', TokenUnknown),
        (b"{}", TokenUnknown),
        (b"[]", TokenMalformed),
        (b"\xff", TokenMalformed),
        (b"[" * 5000, TokenMalformed),
        (b'{"alg":"HS256","kid":7}', TokenMalformed),
        (b'{"alg":"HS256","crit":["x"]}', TokenMalformed),
        (b'{"alg":"HS256","b64":false}', TokenMalformed),
    ],
)
def test_bad_headers(authenticator: JwtAuthenticator, header: bytes, error: type[TokenError]) -> None:
    assert code_of(authenticator, make(json.dumps(GOOD).encode(), header)) == error.code


def test_an_unsigned_token_is_unknown(authenticator: JwtAuthenticator) -> None:
    assert code_of(authenticator, jwt.encode(GOOD, None, algorithm="none")) == TokenUnknown.code


def test_the_signature_comes_before_all_claims(authenticator: JwtAuthenticator) -> None:
    expired = json.dumps(GOOD | {"exp": 1}).encode()
    assert code_of(authenticator, make(expired, secret="another")) == TokenUnknown.code
    assert code_of(authenticator, make(b"{}", secret="another")) == TokenUnknown.code


def test_every_change_of_a_character_is_noticed(authenticator: JwtAuthenticator) -> None:
    token = token_of(GOOD)
    for i, c in enumerate(token):
        assert code_of(authenticator, token[:i] + ("A" if c != "A" else "B") + token[i + 1 :]) in (1503, 1505)


def left_over_bits(token: str) -> str:
    """The last of 43 characters has four bits of the signature and two that mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) | 1]


def other_alphabet(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{signature.replace('-', '+').replace('_', '/')}"


REWRITES: dict[str, Callable[[str], str]] = {
    "padded": lambda token: f"{token}=",
    "padded twice": lambda token: f"{token}==",
    "a line break": lambda token: f"{token}\n",
    "a blank before": lambda token: f" {token}",
    "a line break inside": lambda token: f"{token[:-5]}\n{token[-5:]}",
    "a foreign sign inside": lambda token: f"{token[:-5]}!{token[-5:]}",
    "a dot after": lambda token: f"{token}.",
    "a fourth part": lambda token: f"{token}.{token.rpartition('.')[2]}",
    "a dot before": lambda token: f".{token}",
    "a padded header": lambda token: token.replace(".", "=.", 1),
    "left-over bits": left_over_bits,
    "another alphabet": other_alphabet,
}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
def test_a_token_has_one_text(authenticator: JwtAuthenticator, rewrite: Callable[[str], str]) -> None:
    """Or one that a login ended would come back in another."""
    tokens = (token_of(GOOD, jti=str(number)) for number in range(64))
    token = next(token for token in tokens if "-" in token.rpartition(".")[2])
    for good in (token, unusual(token)):
        rewritten = rewrite(good)
        if rewritten != good:
            assert code_of(authenticator, rewritten) in (TokenMalformed.code, TokenUnknown.code)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ("", "=="),
        ("=", ""),
        ("", "\n"),
        ("", "."),
        ("", ".e30"),
    ],
)
def test_what_is_signed_must_be_well_written_too(authenticator: JwtAuthenticator, header: str, payload: str) -> None:
    usual = token_of(GOOD).split(".")
    for start in (usual[0], segment(b'{"typ":"JWT","alg":"HS256"}')):
        signed = f"{start}{header}.{usual[1]}{payload}"
        signature = segment(sign(SECRET.encode(), signed.encode(), sha256))
        assert code_of(authenticator, f"{signed}.{signature}") == TokenMalformed.code


@pytest.mark.parametrize("length", [MAX_TOKEN_BYTES, MAX_TOKEN_BYTES + 1, 10_000_000])
def test_an_overlong_token_is_not_parsed(authenticator: JwtAuthenticator, length: int) -> None:
    with pytest.raises(TokenMalformed) as caught:
        authenticator.verify("." * length)
    assert ("longer" in caught.value.detail) == (length > MAX_TOKEN_BYTES)


_texts = st.one_of(
    st.text(),
    st.text(alphabet="ab=-_.é\ud800"),
    st.builds(make, st.binary(max_size=64), st.binary(max_size=64)),
    st.builds(make, st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )),
)  # fmt: skip


@given(_texts)
def test_any_text_at_all_is_a_token_error(text: str) -> None:
    with pytest.raises(TokenError):
        JwtAuthenticator(SECRET).verify(text)
