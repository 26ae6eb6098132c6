"""Hatchling's build hook: compiles the hot modules by mypyc where ADSUM_COMPILE=1 asks for it.

The sources are the same: what is compiled is what runs interpreted where it is not.
pyproject.toml says which modules. A C compiler and Python's headers are needed; nothing is
written beside the sources, so a checkout always runs what is in it.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

SWITCH = "ADSUM_COMPILE"

BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup

modules = sys.argv[1:]
sys.argv[1:] = ["--quiet", "build_ext", "--inplace"]
setup(
    name="adsum-compiled",
    packages=[],
    # Files of their own and the first level of optimisation: both halve the time it takes,
    # and higher levels made no difference that could be measured.
    ext_modules=mypycify(
        [
            # Not the project's configuration: a stricter release of a library's types is no reason not to compile.
            "--config-file=", "--python-version=3.11", "--explicit-package-bases", "--local-partial-types",
            *modules,
        ],
        opt_level="1", debug_level="0", multi_file=True,
    ),
)
"""


class CompileHook(BuildHookInterface[WheelBuilderConfig]):
    """Adds the compiled modules to a wheel, beside their sources."""

    _place: "tempfile.TemporaryDirectory[str] | None" = None

    def dependencies(self) -> list[str]:
        """What an isolated build needs on top: also what the modules import, for its types."""
        return [*self.metadata.core.dependencies, *self.config["requires"]] if _is_asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a wheel for this Python and system results."""
        if version == "editable" or not _is_asked():
            return
        _check_tools()
        self._place = tempfile.TemporaryDirectory()
        source = Path(self._place.name, "src")
        shutil.copytree(Path(self.root, "src"), source, ignore=shutil.ignore_patterns("__pycache__"))
        _compile(source, sorted({path for pattern in self.config["modules"] for path in source.glob(pattern)}))
        for path in source.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            inside = path.relative_to(source)
            if inside.parts[0] != "build":
                build_data["force_include"][str(path)] = str(inside)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Take away what was compiled; the wheel has it."""
        if self._place is not None:
            self._place.cleanup()


def _is_asked() -> bool:
    return os.environ.get(SWITCH, "") not in ("", "0")


def _compile(source: Path, modules: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *(str(path.relative_to(source)) for path in modules)],
        cwd=source,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nadsum: compiling failed (above); without {SWITCH}=1 nothing is compiled")


def _check_tools() -> None:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if not headers.exists() or shutil.which("cc") is None:
        version = sysconfig.get_python_version()
        raise SystemExit(
            "adsum: compiling needs a C compiler and Python's headers: "
            f"install them (Debian: apt-get install gcc libc6-dev python{version}-dev), or build without {SWITCH}=1"
        )
