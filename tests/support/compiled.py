"""Whether the compiled modules are what is tested (docs/adr/0015)."""

import pytest

from adsum.build import COMPILED

__all__ = ["COMPILED", "replaces_a_method"]

replaces_a_method = pytest.mark.skipif(COMPILED, reason="a method of a compiled object can't be replaced")
"""For a test that looks in from the side; what it shows is shown of the same source, interpreted."""
