"""Experiment trackers: wandb or trackio are told what `metrics.jsonl` is told, if `machine.track` names one.

Training that resumes does so in the same tracked run: what tells it from others is drawn once and kept in the model's
folder, so that it travels with it. A tracker that fails says why, once, and training continues without it.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gemmule.base import run_folder
from gemmule.base.artifact import writing
from gemmule.base.errors import RequestError, first_line
from gemmule.base.progress import say
from gemmule.recipe import Tracking

IDENTITY = "tracked-as"


class Tracker:
    """One model's training in a tracker: a project for each run folder, a tracked run for each of its models."""

    def __init__(self, library: str, folder: Path, settings: dict[str, Any]) -> None:
        """`folder` is the model's. Raises RequestError if the library is not installed."""
        self.library = library
        module = import_tracker(library)
        own = _identity(folder)
        name = f"{folder.name}-{own}"
        place = {"id": own, "dir": str(folder)} if library == "wandb" else {}  # trackio knows runs by their names
        project = run_folder.holding(folder.absolute()).name
        self._run: Any = None
        self._run = self._try(lambda: module.init(project=project, name=name, config=settings, resume="allow", **place))

    def log(self, record: dict[str, Any]) -> None:
        if self._run is not None:
            self._try(lambda: self._run.log({k: v for k, v in record.items() if k != "step"}, step=record["step"]))

    def close(self) -> None:
        if self._run is not None:
            self._try(self._run.finish)

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # whatever it is, it is no reason to stop training
            say(f"{self.library}: {first_line(error).rstrip('.')}; training continues without it")
            self._run = None
            return None


def import_tracker(library: str) -> Any:
    """The library's module. Raises RequestError naming what is missing and the extra that brings it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise RequestError(
            f'machine.track = "{library}": {first_line(error)}: pip install "gemmule[{library}]"'
        ) from None


def start_tracking(track: Tracking, folder: Path, settings: dict[str, Any]) -> Tracker | None:
    """The tracker that a recipe asks for, for the model of this folder."""
    return None if track == "none" else Tracker(track, folder, settings)


def _identity(folder: Path) -> str:
    file = folder / IDENTITY
    if not file.exists():
        with writing(file):
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(4), encoding="utf-8")
    return file.read_text(encoding="utf-8")
