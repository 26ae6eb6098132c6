"""What is in the wheel and the sdist."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def test_the_wheel_has_the_service_and_nothing_of_its_tests(packages: Path) -> None:
    [wheel] = packages.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"adsum/py.typed", "adsum/cli/__main__.py", "adsum/adapters/redis/lua/common.lua"} <= set(names)
    assert not [name for name in names if name.startswith(("adsum/testing", "tests", "docs"))]


def test_the_description_links_to_nothing_that_is_not_there(packages: Path) -> None:
    [wheel] = packages.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = BytesParser().parsebytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert "# Adsum" in description
    assert "](" not in description.replace("](http", "")


def test_the_sdist_has_what_its_documentation_is_about(packages: Path) -> None:
    [sdist] = packages.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "bench/RESULTS.md", "docs/metrics.md", "scripts/readme.py"} <= names
