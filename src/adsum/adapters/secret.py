"""The development secret: a random one in a file that only its owner can read.

A service without a configured secret signs with it, and the command line on the
same machine, run by the same user, finds it there.

Invariant: the file is complete and private from the moment its name exists, and a
file or folder that others could have written or read is refused, not used.
"""

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adsum.domain.errors import ArgumentError

SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HS256 key has at least the size of the hash."""

_MAX_FILE_BYTES: Final = 4096
_POSIX: Final = hasattr(os, "geteuid")
"""Elsewhere (Windows) a user's own folder is private by its inherited access list, and modes mean little."""


def default_path(environ: Mapping[str, str]) -> Path:
    """`adsum/dev-secret` under `XDG_STATE_HOME`, by default `~/.local/state` (XDG base directories, 0.8)."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    # The specification has relative paths ignored.
    base = state if state.is_absolute() else Path.home() / ".local" / "state"
    return base / "adsum" / "dev-secret"


def load(path: Path) -> str | None:
    """The secret in the file, None if there is none.

    Raises `ArgumentError` if others can read or write the file or its folder, or
    if it holds no secret; `OSError` if it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, "rb") as file:
        _check(path.parent, path.parent.stat(), others=stat.S_IWGRP | stat.S_IWOTH)
        _check(path, os.fstat(file.fileno()), others=stat.S_IRWXG | stat.S_IRWXO)
        content = file.read(_MAX_FILE_BYTES)
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise ArgumentError(f"{path} holds no secret: remove it to have a new one made")
    return secret


def load_or_create(path: Path) -> tuple[str, bool]:
    """The secret in the file, and whether it was made just now.

    Of several processes that start at once, one makes it and all get the same.
    Raises as `load` does, and `OSError` if the file cannot be written.
    """
    secret = load(path)
    if secret is not None:
        return secret, False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    created = _publish(path, secrets.token_urlsafe(SECRET_BYTES))
    secret = load(path)
    if secret is None:
        raise ArgumentError(f"{path} was removed while this service started")
    return secret, created


def _publish(path: Path, secret: str) -> bool:
    """Have the file appear with its whole content; False if another process was first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
        # A link, unlike a rename, fails if the name exists.
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _check(path: Path, found: os.stat_result, *, others: int) -> None:
    if not _POSIX:
        return
    if found.st_uid != os.geteuid():
        raise ArgumentError(f"{path} belongs to another user: remove it, or configure a secret")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ArgumentError(f"{path} is not a file: remove it, or configure a secret")
    if found.st_mode & others:
        mode = stat.S_IMODE(found.st_mode)
        raise ArgumentError(f"{path} is open to others (mode {mode:o}): remove it, or configure a secret")
