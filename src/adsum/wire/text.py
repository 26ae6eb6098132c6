"""Text that may not be text: how the wire's strings become `str` and back.

Invariant: neither function raises, and both follow Go, whose strings are plain
bytes: wherever Go shows a string, each byte that is not part of valid UTF-8
becomes one U+FFFD. (Python's own `errors="replace"` writes one per maximal
subpart instead, so two servers would disagree on the same user ID.)
"""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def to_text(raw: bytes) -> str:
    """`raw` as UTF-8, every invalid byte replaced by one U+FFFD."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _replace_surrogates(raw.decode("utf-8", "surrogateescape"))


def scrub(text: str) -> str:
    """`text` with each lone surrogate, which UTF-8 cannot carry, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _replace_surrogates(text)
    return text


def to_utf8(text: str) -> bytes:
    """`text` as UTF-8, lone surrogates replaced by U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return scrub(text).encode()


def _replace_surrogates(text: str) -> str:
    """In a few steps for any number of them: encoding makes each a `?`, once there are no others."""
    hidden = text.replace("\0", "\0a").replace("?", "\0b")
    shown = hidden.encode("utf-8", "replace").decode().replace("?", REPLACEMENT)
    return shown.replace("\0b", "?").replace("\0a", "\0")
