"""Store URLs: every form, and what is wrong with others, without the password."""

import pytest

from adsum.adapters.redis.url import StoreUrl, parse_store_url
from adsum.domain.errors import ArgumentError

GOOD = {
    "redis://localhost": StoreUrl((("localhost", 6379),)),
    "redis://localhost:7000/3": StoreUrl((("localhost", 7000),), db=3),
    "redis://localhost/": StoreUrl((("localhost", 6379),)),
    "valkey://10.0.0.1": StoreUrl((("10.0.0.1", 6379),)),
    "redis://[::1]:7000": StoreUrl((("::1", 7000),)),
    "redis://:p%40ss@localhost": StoreUrl((("localhost", 6379),), password="p@ss"),
    "redis://me:pass@localhost": StoreUrl((("localhost", 6379),), username="me", password="pass"),
    "rediss://localhost": StoreUrl((("localhost", 6379),), tls=True),
    "rediss://localhost/1?ca=/etc/a%20ca.pem": StoreUrl(
        (("localhost", 6379),), tls=True, db=1, ca_file="/etc/a ca.pem"
    ),
    "redis+cluster://a,b:7001": StoreUrl((("a", 6379), ("b", 7001)), cluster=True),
    "valkeys+cluster://a": StoreUrl((("a", 6379),), tls=True, cluster=True),
    "redis+sentinel://a,b:7001/main": StoreUrl((("a", 26379), ("b", 7001)), service="main"),
    "redis+sentinel://me:x@a/main/2": StoreUrl((("a", 26379),), service="main", db=2, username="me", password="x"),
}

BAD = {
    "": "form",
    "localhost:6379": "form",
    "http://hunter2@localhost": "form",
    "redis://": "form",
    "redis://:hunter2@a b:x": "HOST",
    "redis://:hunter2@localhost/x": "number",
    "redis://:hunter2@localhost/1/2": "number",
    "redis://:hunter2@a,b": "several hosts",
    "redis+cluster://:hunter2@a/1": "no numbered databases",
    "redis+sentinel://:hunter2@a": "service",
    "redis://:hunter2@a?ca=/x": "TLS",
    "rediss://:hunter2@a?verify=no": "form",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_good_url_says_where_the_store_is(text: str) -> None:
    """One server, Sentinel or a cluster."""
    assert parse_store_url(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_url_is_explained_without_its_password(text: str) -> None:
    """What is wrong, but never the login."""
    with pytest.raises(ArgumentError, match=BAD[text]) as failure:
        parse_store_url(text)
    assert "hunter2" not in str(failure.value)


def test_a_password_is_not_shown() -> None:
    """Not even where the whole value is."""
    assert "hunter2" not in repr(parse_store_url("redis://me:hunter2@localhost"))
