"""Which build of Adsum this is."""

from typing import Final

from adsum.wire import gob

COMPILED: Final = not gob.__file__.endswith(".py")
"""Whether the hot modules are compiled (docs/adr/0015)."""
