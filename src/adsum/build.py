"""What is running: this package's build, and the interpreter."""

import platform
from typing import Final

from adsum import __version__
from adsum.wire import gob

COMPILED: Final = not gob.__file__.endswith(".py")
"""Whether the hot modules are compiled (docs/adr/0015): all of them, or none."""


def described() -> str:
    """Version, interpreter, and whether the hot modules are compiled, for a person."""
    how = "compiled" if COMPILED else "not compiled"
    return f"{__version__} ({how}, {platform.python_implementation()} {platform.python_version()})"
