"""Which sources the measured service runs."""

from pathlib import Path

import pytest

from tests.support.service import running_service


async def test_a_service_imports_from_the_folder_named(tmp_path: Path) -> None:
    package = tmp_path / "adsum"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('this one is asked for')\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="this one is asked for"):
        async with running_service(sources=tmp_path):
            pass
