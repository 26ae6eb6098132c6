"""What is running: this package's build, and the interpreter."""

import platform
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

from adsum import __version__

HOT = "adsum.wire.websocket"
"""One of the modules that are compiled together, or not at all."""


def compiled() -> bool:
    """Whether the hot modules are compiled."""
    found = find_spec(HOT)
    return found is not None and (found.origin or "").endswith(tuple(EXTENSION_SUFFIXES))


def described() -> str:
    """Version, interpreter, and whether the hot modules are compiled, for a person."""
    how = "compiled" if compiled() else "not compiled"
    return f"{__version__} ({how}, {platform.python_implementation()} {platform.python_version()})"
