"""The recipe in a run folder, as it ran: written, and compared with the one that is given now."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from gemmule import recipe as recipes
from gemmule.base import artifact, run_folder
from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.base.run_folder import FINGERPRINTS, RECIPE
from gemmule.plan.plan import Plan
from gemmule.refine import sources

OUTSIDE = ("data.sources", ".from", ".start_from")  # keys that name files, which are known by their contents


class RecordedRecipe:
    """Of a plan, whose recipe's TOML is `raw`, read from `origin`."""

    def __init__(self, plan: Plan, raw: dict[str, Any], origin: Path) -> None:
        self.plan, self.raw, self.origin = plan, raw, origin

    def write(self) -> None:
        """The recipe as it ran, overrides included, runnable from where it lies.

        A file that is not as gemmule writes it is its user's: it stays, if it is the recipe that was given (it says
        what runs, or `check` refused), and moves to old/ else.
        """
        path, text = self.plan.out / RECIPE, tomli_w.dumps(self._as_it_runs())
        artifact.write_json(self.plan.out / FINGERPRINTS, self.plan.origins.fingerprints)
        if _is_users(path):
            if self._is_given(path):
                return
            moved = artifact.retire(path, self.plan.out / "old")
            say(f"moved {path}, which was changed by hand, to {moved}")
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            artifact.replace_file(path, text.encode("utf-8"))

    def check(self) -> None:
        """Raises RequestError where something that gemmule did not make would have to be written to."""
        run_folder.check_free(self.plan.out)
        path = self.plan.out / RECIPE
        if self._is_given(path) and _is_users(path) and recipes.read(path) != self.raw:
            raise RequestError(
                f"{path}: changed by hand, so that --set can't be written into it: write the keys into it, or give a "
                "recipe from outside the run folder"
            )

    def _is_given(self, path: Path) -> bool:
        """Whether the recipe in the run folder is the one that was given, by whatever name."""
        return path.exists() and self.origin.exists() and path.samefile(self.origin)

    def _as_it_runs(self) -> dict[str, Any]:
        """The recipe's TOML with every path in it absolute."""
        raw: dict[str, Any] = json.loads(json.dumps(self.raw))
        for key in ("sources", "exclude"):
            if key in raw["data"]:
                raw["data"][key] = [_absolute(source, self.plan.base) for source in raw["data"][key]]
        refine = raw.get("refine", {})
        for key in ("minus", "decontaminate"):
            if key in refine:
                refine[key] = [_absolute(source, self.plan.base) for source in refine[key]]
        for section in [raw["tokenizer"], *raw["models"].values()]:
            for key in ("from", "start_from"):
                named = section.get(key)
                place = self.plan.origins.locate(named) if named else None
                if place is not None and named not in self.plan.recipe.models and place.exists():
                    section[key] = str(place.resolve())
        return raw

    def moved(self, reason: str) -> str:
        """Of a difference in something from outside, known by its contents: where it was, and where it is now."""
        key = reason.partition(": ")[0]
        try:
            before = _value(tomllib.loads((self.plan.out / RECIPE).read_text(encoding="utf-8")), key)
        except (OSError, ValueError):
            return ""
        now = _value(self._as_it_runs(), key)
        return f" ({before} -> {now})" if key.endswith(OUTSIDE) and before and now and before != now else ""


def _absolute(source: Any, base: Path) -> Any:
    if isinstance(source, dict):
        return source | {"path": sources.absolute(source["path"], base)}
    return sources.absolute(source, base)


def _is_users(path: Path) -> bool:
    """Whether a recipe in a run folder is not as gemmule writes it: it has comments, another form, or is a link."""
    try:
        text = path.read_text(encoding="utf-8")
        return path.is_symlink() or tomli_w.dumps(tomllib.loads(text)) != text
    except FileNotFoundError:
        return path.is_symlink()
    except ValueError:
        return True


def _value(raw: dict[str, Any], key: str) -> Any:
    """That of a dotted key in a recipe's TOML; None where it is not there. A model's name may hold dots."""
    section: Any = raw
    first, _, rest = key.partition(".")
    name, _, last = rest.rpartition(".")
    for part in (first, name, last) if name else (first, last):
        section = section.get(part) if isinstance(section, dict) else None
    return section
