"""Origins: written as people do, sent as browsers do."""

import pytest

from adsum.core.origins import Origins, parse_origin
from adsum.domain.errors import ArgumentError


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://chat.example.com", "https://chat.example.com"),
        ("HTTPS://Chat.Example.COM", "https://chat.example.com"),
        ("https://chat.example.com:443", "https://chat.example.com"),
        ("http://chat.example.com:80", "http://chat.example.com"),
        ("https://chat.example.com:80", "https://chat.example.com:80"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("https://xn--mnchen-3ya.de", "https://xn--mnchen-3ya.de"),
        ("null", "null"),
        ("https://*.example.com:443", "https://*.example.com"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(written: str, sent: str) -> None:
    assert parse_origin(written) == sent
    if "*" not in sent:
        assert Origins([written]).admit(sent)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("chat.example.com", "as browsers send them"),
        ("https://chat.example.com/", "without a path"),
        ("https://me@chat.example.com", "as browsers send them"),
        ("https://", "as browsers send them"),
        ("https://münchen.de", "in ASCII"),
        ("https://chat.*.com", r"\*\. at the beginning"),
        ("https://*", r"\*\. at the beginning"),
        ("https://*chat.example.com", r"\*\. at the beginning"),
        ("*", "as browsers send them"),
        ("https://chat.example.com:0", "ports from 1"),
        ("https://chat.example.com:65536", "ports from 1"),
        ("http://[::1", "as browsers send them"),
        ("http://[1:2]", "IPv6"),
    ],
)
def test_what_no_browser_sends_is_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        parse_origin(written)


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("https://chat.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("https://evilexample.com", False),
        ("http://chat.example.com", False),
        ("https://chat.example.com:8443", False),
        ("https://chat.example.com.evil", False),
        ("https://evil/.example.com", False),
        ("https://chatXexample.com", False),
        ("null", False),
    ],
)
def test_a_star_stands_for_every_subdomain(origin: str, admitted: bool) -> None:  # noqa: FBT001 - of the test
    assert Origins(["https://*.example.com", "http://localhost"]).admit(origin) == admitted


def test_no_origin_named_admits_all() -> None:
    assert Origins().admit("https://anybody.example")
    assert Origins().admit("null")
