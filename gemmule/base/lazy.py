"""Submodules and names that load when they are first asked for, so that `import gemmule` stays quick."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def submodules(package: str) -> Callable[[str], ModuleType]:
    """A package's `__getattr__` by which `gemmule.losses.targets` works after `import gemmule` alone."""

    def load(name: str) -> ModuleType:
        if not name.startswith("_"):
            try:
                return importlib.import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{package}.{name}":
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load


def names(package: str, public: Mapping[str, str]) -> Callable[[str], Any]:
    """The same for names that a package gives out: `public` has the submodule that each stands in."""
    module = submodules(package)

    def load(name: str) -> Any:
        if name not in public:
            return module(name)
        return getattr(importlib.import_module(f"{package}.{public[name]}"), name)

    return load
