"""Small experiments that show what the paper's choices do. `gemmule study NAME` runs one and prints its table.

A study is a file of this folder; folders in it are what studies share. The first line of its docstring is its help;
`run()` gives what is printed.
"""

import ast
import pkgutil
from pathlib import Path

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)


def studies() -> dict[str, str]:
    """Each study's name on the command line, and its help. None is imported for that: they import torch."""
    found = ((folder, module) for folder in __path__ for module in pkgutil.iter_modules([folder]))
    files = [Path(folder, f"{module.name}.py") for folder, module in found if not module.ispkg]
    return {file.stem.replace("_", "-"): _first_line(file) for file in sorted(files)}


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return docstring.partition("\n")[0].rstrip(".")
