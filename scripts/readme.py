"""Hatchling's metadata hook: the package's description is the README, without links to what is not in a package."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)[^)]*\)")


class ReadmeHook(MetadataHookInterface):
    """Says what the dynamic `readme` is."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add it."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": RELATIVE_LINK.sub(r"\1", text)}
