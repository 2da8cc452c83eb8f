"""Small experiments that show what the paper's choices do. `gemmule study NAME` runs one and prints its table.

A study is a file of this folder; folders in it are what studies share. The first line of its docstring is its help;
`run()` gives what is printed; its parameters are the options that the study has, of --scale, --seeds and --out.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)


def studies() -> dict[str, str]:
    """Each study's name on the command line, and its help. None is imported for that: they import torch."""
    found = ((folder, module) for folder in __path__ for module in pkgutil.iter_modules([folder]))
    files = [Path(folder, f"{module.name}.py") for folder, module in found if not module.ispkg]
    return {file.stem.replace("_", "-"): _first_line(file) for file in sorted(files)}


def run(name: str, **options: Any) -> Any:
    """Runs a study, and gives what is to be printed; of the options, those that are None were not given.

    Raises RequestError for one that the study does not have.
    """
    study = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    given = {option: value for option, value in options.items() if value is not None}
    if unknown := given.keys() - inspect.signature(study.run).parameters.keys():
        raise RequestError(f"--{min(unknown)}: the study {name} has no such option")
    return study.run(**given)


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return docstring.partition("\n")[0].rstrip(".")
