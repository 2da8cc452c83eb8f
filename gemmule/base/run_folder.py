"""Which folders gemmule may write a run into: its own, and those that are empty or not there.

A run is known by `.fingerprints.json`, which every run writes before its first artifact; or, where hidden files were
left behind in copying, by its recipe and documents. What a user made is never replaced: a folder that has files and is
no run is refused, and so is a report of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from gemmule.base.artifact import MANIFEST
from gemmule.base.errors import RequestError, cannot_write
from gemmule.base.locks import HELD, LOCK

RECIPE, FINGERPRINTS, STATUS = "recipe.toml", ".fingerprints.json", "status.json"
SEEDS = "seeds"  # holds the further trainings of models, in a folder for each seed
BEGUN = {LOCK, HELD, STATUS, f".{STATUS}.tmp", f".{RECIPE}.tmp"}  # of a run that was killed before it was one


def is_run(folder: Path) -> bool:
    """Whether gemmule made this folder."""
    copied = (folder / RECIPE).is_file() and (folder / "documents" / MANIFEST).is_file()
    return copied or (folder / FINGERPRINTS).is_file()


def holding(model: Path) -> Path:
    """The run folder of a model's, which is models/NAME in it, or in seeds/SEED."""
    folder = model.parent.parent
    run = folder.parent.parent
    return run if folder.parent.name == SEEDS and is_run(run) else folder


def run_of(recipe: Path) -> Path | None:
    """The run folder that a recipe lies in, if a run has put it there."""
    return recipe.parent if recipe.name == RECIPE and is_run(recipe.parent) else None


def check_free(folder: Path) -> None:
    """Raises RequestError where no run may be written: in a folder with files that gemmule did not make, in a file."""
    try:
        str(folder.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(
            f"{folder}: a name that is not UTF-8, or a locale that is not: the libraries that write there need UTF-8"
        ) from None
    try:
        if folder.is_symlink() and not folder.exists():
            raise RequestError(f"{folder}: a link to {os.readlink(folder)}, which does not exist")
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"{folder}: a file, not a folder; choose another --out")
        names = set(os.listdir(folder)) if folder.exists() else set()
    except OSError as error:
        raise cannot_write(folder, error) from None
    if names and not is_run(folder) and not (LOCK in names and names <= BEGUN):
        raise RequestError(
            f"{folder.absolute() if str(folder) == '.' else folder}: contains files that gemmule did not make "
            f"({_some(names)}); a run needs a folder of its own: choose another --out"
        )


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
