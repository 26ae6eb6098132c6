"""OpenIM's bearer tokens: JWT, HS256, with the claims `UserID`, `PlatformID`, `exp`, `iat`.

PyJWT does the parsing and the signature, but for good tokens with the header that
nearly all have, which are recognised directly in a third of the time: it shows
when many clients reconnect at once. The claims, whose names and meaning are
OpenIM's, are judged here. The signature comes first: of a token that is not signed
with our secret nothing is believed, not even that it has expired.

Invariant: a token has one text. Header and payload are signed as they are written; the
signature itself is only good in the one way base64url writes it (RFC 7515 section 2: no
padding, no other alphabet, no left-over bits), or whoever is told that a token has ended
could write it another way.

No error's text holds any part of a token.
"""

import hmac
import time
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec
from jwt import PyJWS
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError, InvalidTokenError

from adsum.domain.errors import (
    ArgumentError,
    TokenExpired,
    TokenMalformed,
    TokenNotValidYet,
    TokenUnknown,
)
from adsum.domain.identity import Identity

MAX_TOKEN_BYTES: Final = 8192
"""Longer ones are refused unread. OpenIM's have about 200 bytes."""

DIGEST_BYTES: Final = 16

_ALGORITHM: Final = "HS256"
_USUAL_START: Final = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}') + b"."
"""How tokens of OpenIM (golang-jwt) and of PyJWT begin; 27 bytes need no padding."""

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")

_FOREVER_S: Final = 2.0**40
"""About 35,000 years: later moments, which a claim may name, become this one."""


class _Claims(msgspec.Struct):
    """The payload. Times are unix seconds, possibly fractional (RFC 7519, NumericDate).

    `iat` is not judged, as RFC 7519 (section 4.1.6) has no rule by which it could be
    refused: an issuer whose clock is a second ahead signs good tokens.
    """

    user_id: str = msgspec.field(name="UserID")
    platform_id: int = msgspec.field(name="PlatformID")
    exp: float | None = None
    nbf: float | None = None


_decode_claims = msgspec.json.Decoder(_Claims).decode


class _Hs256(HMACAlgorithm):
    """HS256 with a key that was judged once.

    The library judges the key again for every token, which takes longer than the
    signature, and warns of keys under 32 bytes each time; OpenIM's deployments
    have such keys. Whether a key is too weak is said once, by the configuration.
    """

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 -- the library's signature
        return None

    def sign(self, msg: bytes, key: bytes) -> bytes:
        return hmac.digest(key, msg, "sha256")


class JwtAuthenticator:
    """An `Authenticator` for tokens signed with one secret.

    `leeway_ms` is how far the issuer's clock may be off; `now` gives unix time in
    seconds. Raises `ArgumentError` for a secret that cannot be an HMAC key: an
    empty one, or what is evidently a public key or a JWK.
    """

    def __init__(self, secret: str, leeway_ms: int = 0, now: Callable[[], float] = time.time) -> None:
        self.use(secret)
        self._jws = PyJWS(algorithms=())
        self._jws.register_algorithm(_ALGORITHM, _Hs256())
        self._leeway_s = leeway_ms / 1000
        self._now = now

    def use(self, secret: str) -> None:
        """Sign and judge with this secret from now on; raises as the constructor, and changes nothing then."""
        try:
            self._key = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
        except InvalidKeyError:
            raise ArgumentError("the secret cannot be an HS256 key: it is empty, or a key of another kind") from None
        self._mac = hmac.new(self._key, digestmod="sha256")

    def verify(self, token: str) -> Identity:
        """The identity a token proves.

        Raises `TokenMalformed` (1503) for what is no JWT or lacks a claim,
        `TokenUnknown` (1505) for another signature or algorithm, `TokenExpired`
        (1501) and `TokenNotValidYet` (1504). A token without `exp` never expires.
        """
        try:
            raw = token.encode("ascii")
        except UnicodeEncodeError:
            raise TokenMalformed("the token is not a JWT") from None
        claims = self._claims(raw)
        self._check_times(claims)
        return Identity(
            user_id=claims.user_id,
            platform_id=claims.platform_id,
            digest=blake2b(raw, digest_size=DIGEST_BYTES).digest(),
            expires_ms=0 if claims.exp is None else int(min(claims.exp, _FOREVER_S) * 1000),
        )

    def issue(self, user_id: str, platform_id: int, ttl_ms: int) -> str:
        """A token for this user and platform, valid from now for `ttl_ms`."""
        now_s = int(self._now())
        # Whole seconds, as every issuer writes them; rounded up, as nobody wants 0 s.
        claims = {"UserID": user_id, "PlatformID": platform_id, "exp": now_s - -ttl_ms // 1000, "iat": now_s}
        return self._jws.encode(msgspec.json.encode(claims), self._key, _ALGORITHM)

    def _claims(self, token: bytes) -> _Claims:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenMalformed(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            claims = _decode_claims(self._payload(token))
        except InvalidSignatureError:
            raise TokenUnknown("the token's signature does not match the service's secret") from None
        except InvalidAlgorithmError:
            raise TokenUnknown("the token is signed by another algorithm than HS256") from None
        except msgspec.ValidationError:
            raise TokenMalformed("the token's UserID, PlatformID or a time is missing or of the wrong type") from None
        except (InvalidTokenError, ValueError, RecursionError):
            raise TokenMalformed("the token is not a JWT") from None
        if not claims.user_id:
            raise TokenMalformed("the token's UserID is empty")
        return claims

    def _payload(self, token: bytes) -> bytes:
        """The payload of a token whose signature is good; what else it is, the library finds out."""
        signed, _, signature = token.rpartition(b".")
        canonical = hmac.compare_digest(signature, self._sign(signed))
        if not (canonical and signed.startswith(_USUAL_START)):
            self._jws.decode(token, self._key, (_ALGORITHM,))
            if not canonical:
                raise TokenMalformed("the token's signature is not written as base64url without padding")
        payload = signed.partition(b".")[2]
        return a2b_base64(payload.translate(_FROM_URL_SAFE) + b"=" * (-len(payload) % 4), strict_mode=True)

    def _sign(self, signed: bytes) -> bytes:
        """The signature as it stands in a token: in base64 of the URL-safe alphabet, unpadded."""
        mac = self._mac.copy()
        mac.update(signed)
        return b2a_base64(mac.digest(), newline=False).translate(_TO_URL_SAFE, b"=")

    def _check_times(self, claims: _Claims) -> None:
        now_s = self._now()
        if claims.exp is not None and now_s >= claims.exp + self._leeway_s:
            raise TokenExpired("the token has expired: log in again")
        if claims.nbf is not None and claims.nbf > now_s + self._leeway_s:
            raise TokenNotValidYet("the token is not valid yet: its issuer's clock, or this service's, may be wrong")
