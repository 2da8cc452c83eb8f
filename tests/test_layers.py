"""The order of the folders: each imports only from those above it in the data flow. README's layout lists them so."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gemmule

ROOT = Path(gemmule.__file__).parent
ORDER = (
    "base", "recipe", "losses", "model", "refine", "tokenize", "convert", "generate", "teach", "train", "evaluate",
    "report", "plan", "estimate", "init", "run", "studies", "cli",
)  # fmt: skip
HEAVY = {"torch", "transformers"}


def imported(file: Path) -> Iterator[str]:
    """The rooms of gemmule that a module imports from, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gemmule":
            assert node.module is not None
            _, *parts = node.module.split(".")
            yield from parts[:1] or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (name[1] for alias in node.names if (name := alias.name.split("."))[0] == "gemmule" and name[1:])


@pytest.mark.parametrize("room", ORDER)
def test_a_folder_imports_only_what_stands_above_it(room):
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))
    assert files
    allowed = {*ORDER[: ORDER.index(room) + 1], "__version__"}
    upward = {f"{file.relative_to(ROOT)}: {name}" for file in files for name in imported(file) if name not in allowed}
    assert upward == set()


def test_every_folder_has_its_place():
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    loose = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert rooms | loose == set(ORDER)


def test_no_modules_import_each_other_in_a_circle():
    """Imports within functions, and those for types alone, among them."""
    files = {".".join(("gemmule", *file.relative_to(ROOT).with_suffix("").parts)): file for file in ROOT.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): file for name, file in files.items()}
    sorter = TopologicalSorter({name: named(file, modules.keys()) - {name} for name, file in modules.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def named(file: Path, modules: Set[str]) -> set[str]:
    """Those of `modules` that a file imports, or takes a name from."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole if whole <= modules else {*whole, node.module}
    return names & modules
