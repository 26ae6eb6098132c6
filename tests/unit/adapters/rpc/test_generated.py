"""The committed message code is what `proto/` says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adsum import proto

COMMITTED = Path(proto.__file__).parent
SCRIPT = Path(__file__).parents[4] / "scripts" / "proto.sh"


def test_committed_code_equals_a_regeneration(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    subprocess.run([SCRIPT, tmp_path], check=True, env={**os.environ, "PYTHON": sys.executable}, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*_pb2.py*")}
    assert made == committed, "run `make proto`"
