"""Reading a recipe: its TOML, `--set` over it, `like` spelled out, defaults filled in; then it is checked."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gemmule.errors import RequestError
from gemmule.recipe.checks import check_names, check_secrets
from gemmule.recipe.defaults import OutsideShape, fill_in
from gemmule.recipe.errors import explain, unknown_name
from gemmule.recipe.schema import MODEL_NAME, Recipe, in_order

BUNDLED = "gemmule:"


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe file, with `key=value` overrides. Raises RequestError naming the key, the value and the remedy."""
    return parse(read(path, overrides), str(path))


def read(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A recipe file's TOML with the overrides in it, not checked yet. Raises RequestError.

    "gemmule:NAME" is one that gemmule brings; what it names is relative to the working directory.
    """
    place = _bundled(path.name.removeprefix(BUNDLED)) if str(path).startswith(BUNDLED) else path
    try:
        raw = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path}: no such recipe") from None
    except OSError as error:
        raise RequestError(f"{path}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not TOML: {error}") from None
    for override in overrides:
        _override(raw, override)
    return raw


def parse(raw: Mapping[str, Any], origin: str = "recipe", outside: OutsideShape | None = None) -> Recipe:
    """A recipe from its TOML as a dictionary. Raises RequestError.

    `outside` tells the architecture of a model from outside, which one that is cut from it follows where its own is
    silent; without it, or where it gives None, the general defaults hold.
    """
    complete = copy.deepcopy(dict(raw))
    for section in complete.keys() - {"evaluate"}:  # whose prompts are text
        check_secrets(complete[section], f"{origin}: {section}")
    complete["models"] = _expand_like(complete.get("models"), origin)
    fill_in(complete, outside or (lambda _: None))
    try:
        recipe = Recipe.model_validate(complete)
    except ValidationError as error:
        raise RequestError(explain(error, origin, Recipe)) from None
    check_names(recipe, origin)
    recipe.order()
    return recipe


def _bundled(name: str) -> Path:
    """In the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    folders = (package / "recipes", package.parent / "recipes")
    there = {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}
    if name not in there:
        raise RequestError(f"{BUNDLED}{name}: {unknown_name(name, there, 'recipe')}")
    return there[name]


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RequestError(f"--set {override!r}: should be KEY=VALUE, as in models.student.train.tokens=500k")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    section = raw
    for part in path[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise RequestError(f"--set {override!r}: {part} is not a section of the recipe")
    section[path[-1]] = value


def _expand_like(models: Any, origin: str) -> Any:
    if not isinstance(models, dict) or not all(isinstance(model, dict) for model in models.values()):
        return models  # pydantic says what is wrong
    for name in models:
        if not MODEL_NAME.fullmatch(name) or name == "none":
            raise RequestError(
                f"{origin}: models.{name}: not a name for a model: "
                + ("none is reserved" if name == "none" else "letters, digits, . _ and -, at most 100 of them")
            )
    likes = {name: [model["like"]] if isinstance(model.get("like"), str) else [] for name, model in models.items()}
    for name, (*others,) in likes.items():
        for other in others:
            if other not in models:
                raise RequestError(f"{origin}: models.{name}.like = {other!r}: {unknown_name(other, models, 'model')}")
    expanded: dict[str, Any] = {}
    for name in in_order(likes, "like"):
        base = copy.deepcopy(expanded[likes[name][0]]) if likes[name] else {}
        expanded[name] = _merge(base, models[name])
    return {name: expanded[name] for name in models}


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            base[key] = _merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)
    return base
