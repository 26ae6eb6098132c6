"""The modules that may be compiled, and what mypyc makes something else of than Python does."""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compiled import COMPILED

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PATTERNS: list[str] = CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
PATHS = sorted({path for pattern in PATTERNS for path in SOURCE.glob(pattern)})

modules = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SOURCE)))

Function = ast.FunctionDef | ast.AsyncFunctionDef
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_names_a_module(pattern: str) -> None:
    assert list(SOURCE.glob(pattern))


@modules
def test_nothing_waits_while_an_exception_is_handled(path: Path) -> None:
    """Compiled, it would leave that exception as the current one, for whatever runs next."""
    for function in _functions(path):
        for attempt in _attempts(function):
            handling = [*attempt.finalbody, *(statement for clause in attempt.handlers for statement in clause.body)]
            inside = [node for statement in handling for node in ast.walk(statement)]
            assert not any(isinstance(node, WAITS) for node in inside), f"{function.name}: a wait in except or finally"


@modules
def test_a_name_stands_for_errors_of_one_type(path: Path) -> None:
    """Compiled, it has the type of the first clause, and a TypeError in the second."""
    for function in _functions(path):
        types: dict[str, str] = {}
        for attempt in _attempts(function):
            for clause in attempt.handlers:
                if clause.name is not None and clause.type is not None:
                    caught = ast.unparse(clause.type)
                    assert types.setdefault(clause.name, caught) == caught, f"{function.name}: {clause.name}"


@modules
def test_no_class_keeps_a_table_of_its_methods(path: Path) -> None:
    """They are not values yet where mypyc runs the body of a class."""
    for one in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(one, ast.ClassDef):
            methods = {item.name for item in one.body if isinstance(item, Function)}
            values = [item.value for item in one.body if isinstance(item, ast.Assign | ast.AnnAssign) and item.value]
            names = {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}
            assert not methods & names, one.name


@modules
def test_no_class_has_annotations_that_a_library_reads(path: Path) -> None:
    """Compiled, it has others: the parser would take what the limits in them forbid."""
    for one in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(one, ast.ClassDef):
            assert "msgspec.Struct" not in [ast.unparse(base) for base in one.bases], one.name


@pytest.mark.skipif(not COMPILED, reason="the modules are interpreted here")
@modules
def test_what_is_tested_is_compiled(path: Path) -> None:
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    assert not str(importlib.import_module(name).__file__).endswith(".py")


def _functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, Function))


def _attempts(function: Function) -> Iterator[ast.Try]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Try))
