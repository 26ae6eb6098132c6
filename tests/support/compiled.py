"""Whether the compiled modules are what is tested (docs/adr/0015)."""

import pytest

from adsum.wire import gob

COMPILED = not gob.__file__.endswith(".py")

replaces_a_method = pytest.mark.skipif(COMPILED, reason="a method of a compiled object can't be replaced")
"""For a test that looks in from the side; what it shows is shown of the same source, interpreted."""
