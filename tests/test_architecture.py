"""The house: imports go down and never back up, each room says what it is for, files and functions stay short."""

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT, USER_DIR

PACKAGE = USER_DIR.name
# From the top down: a file imports what stands on a lower floor, or in its own room, and nothing else of ours.
FLOORS = [
    ["train", "infer", "tune", "results", "profile", "similarity", "slim", "transcribe", "export"],
    ["tasks"],
    ["teaching", "decoding", "training", "profiling", "shipping"],
    ["student"],
    ["models"],
    ["checkpoints", "criterions"],
    ["losses", "modules", "data", "lr_schedulers", "optimizers"],
    ["compat", "files", "machine", "measure", "messages", "quiet", "stages"],
]
FLOOR = {room: floor for floor, rooms in enumerate(reversed(FLOORS)) for room in rooms}
BESIDE = {("tune", "infer")}
FILES = [path for path in sorted(USER_DIR.rglob("*.py")) if path != USER_DIR / "__init__.py"]
OURS = [path for folder in (PACKAGE, "manifests", "recipes", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
LINES, FUNCTION_LINES = 250, 40
LONGER = ["distill_user_dir/shipping/runner.py"]  # stands alone, in one file, where nothing of ours is installed


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(module: str) -> str:
    """distill_user_dir.modules.hubert -> modules."""
    return module.split(".")[1]


def imported(path: Path):
    """The modules of this package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}."))


def goes_down(here: str, there: str) -> bool:
    return here == there or FLOOR[there] < FLOOR[here] or (here, there) in BESIDE or FLOOR[here] == FLOOR[there] == 0


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_go_down(path):
    here = path.relative_to(USER_DIR).parts[0].split(".")[0]
    up = [module for module in imported(path) if not goes_down(here, room(module))]
    assert not up, f"{name(path)} imports {up}, which stands above it"


def test_every_room_has_a_floor():
    assert {path.relative_to(USER_DIR).parts[0].split(".")[0] for path in FILES} == set(FLOOR)


def test_a_room_says_what_it_is_for():
    empty = [name(path) for path in USER_DIR.rglob("__init__.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not empty


def test_files_and_functions_are_short():
    long = [name(path) for path in OURS if len(path.read_text().splitlines()) > LINES and name(path) not in LONGER]
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > FUNCTION_LINES:
                long.append(f"{name(path)}:{node.lineno} {node.name}")
    assert not long


def test_what_stands_alone_imports_nothing_of_ours():
    for path in LONGER:
        assert not list(imported(ROOT / path))
