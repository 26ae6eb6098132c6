"""The development secret's file: private, complete, and the same for all who ask."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adsum.adapters.secret import default_path, load, load_or_create
from adsum.domain.errors import ArgumentError

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes mean little there")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "adsum" / "dev-secret"


def test_the_path_follows_the_environment(tmp_path: Path) -> None:
    assert default_path({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "adsum" / "dev-secret"
    home = Path.home() / ".local" / "state" / "adsum" / "dev-secret"
    assert default_path({}) == home
    assert default_path({"XDG_STATE_HOME": ""}) == home
    assert default_path({"XDG_STATE_HOME": "relative"}) == home


def test_there_is_none_until_it_is_made(path: Path) -> None:
    assert load(path) is None
    secret, created = load_or_create(path)
    assert created
    assert len(secret.encode()) >= 32
    assert load(path) == secret
    assert load_or_create(path) == (secret, False)
    assert [entry.name for entry in path.parent.iterdir()] == ["dev-secret"]


@posix
def test_only_the_owner_can_get_at_it(path: Path) -> None:
    load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_written_secret_is_used(path: Path) -> None:
    load_or_create(path)
    path.write_text("  my own\n")
    assert load_or_create(path) == ("my own", False)


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o777])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    secret, _ = load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ArgumentError, match=f"open to others.*{mode:o}") as caught:
        load_or_create(path)
    assert secret not in str(caught.value)


@posix
def test_a_folder_that_others_can_write_to_is_refused(path: Path) -> None:
    load_or_create(path)
    path.parent.chmod(0o770)
    with pytest.raises(ArgumentError, match="open to others"):
        load(path)


@posix
def test_what_is_no_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises((ArgumentError, OSError)):
        load(path)
    path.rmdir()
    (tmp_path / "elsewhere").write_text("x")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        load_or_create(path)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_secret_is_refused(path: Path, content: bytes) -> None:
    load_or_create(path)
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="holds no secret"):
        load(path)


def test_processes_that_start_at_once_get_the_same(path: Path) -> None:
    code = (
        "from pathlib import Path; from adsum.adapters.secret import load_or_create;"
        f"print(load_or_create(Path({str(path)!r})))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(6)]
    answers = [process.communicate()[0].decode() for process in processes]
    assert len({answer.split("'")[1] for answer in answers}) == 1
    assert sum("True" in answer for answer in answers) == 1
