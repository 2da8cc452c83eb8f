"""The libraries that steps need, of the extra `refine`: each step imports its own where it first uses it."""

from __future__ import annotations

import importlib.util

from gemmule.base.errors import RequestError


def check_installed(step: str, *modules: str) -> None:
    """Raises RequestError naming the extra. Nothing is imported."""
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise RequestError(f"refine.{step}: needs {' and '.join(missing)}: pip install 'gemmule[refine]'")
