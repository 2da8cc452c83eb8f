"""Reading a recipe: its TOML, `--set` over it, `like` spelled out, defaults filled in; then it is checked."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gemmule.base.encodings import BYTE_ORDER_MARK, what_it_is
from gemmule.base.errors import RequestError, shown
from gemmule.recipe.checks import check_names, check_scoring, check_secrets, check_seeds
from gemmule.recipe.defaults import OutsideShape, fill_in
from gemmule.recipe.errors import explain, show, unknown_name
from gemmule.recipe.schema import MOST_MODELS, Recipe, in_order
from gemmule.recipe.values import check_name

BUNDLED = "gemmule:"
LARGEST = 2 * 10**6  # bytes of a recipe
DEEPEST = 8  # levels of tables and lists in it
LONGEST_OVERRIDE = 10**5  # characters


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe file, with `key=value` overrides. Raises RequestError naming the key, the value and the remedy."""
    return parse(read(path, overrides), str(path))


def read(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A recipe file's TOML with the overrides in it, not checked yet. Raises RequestError.

    "gemmule:NAME" is one that gemmule brings; what it names is relative to the working directory.
    """
    place = _bundled(path.name.removeprefix(BUNDLED)) if str(path).startswith(BUNDLED) else path
    raw = _toml(_text(place, str(path)), f"{path}: not TOML")
    for override in overrides:
        _override(raw, override)
    return raw


def parse(raw: Mapping[str, Any], origin: str = "recipe", outside: OutsideShape | None = None) -> Recipe:
    """A recipe from its TOML as a dictionary. Raises RequestError.

    `outside` tells the architecture of a model from outside, which one that is cut from it follows where its own is
    silent; without it, or where it gives None, the general defaults hold.
    """
    _check_depth(raw, origin)
    complete = copy.deepcopy(dict(raw))
    for section in complete.keys() - {"evaluate"}:  # whose prompts are text
        check_secrets(complete[section], f"{origin}: {section}")
    complete["models"] = _expand_like(complete.get("models"), origin)
    fill_in(complete, outside or (lambda _: None))
    try:
        recipe = Recipe.model_validate(complete)
    except ValidationError as error:
        raise RequestError(explain(error, origin, Recipe, complete)) from None
    check_names(recipe, origin)
    check_scoring(recipe, origin)
    check_seeds(recipe, origin)
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


def _text(path: Path, name: str) -> str:
    """What a recipe's file holds. Raises RequestError."""
    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"{name}: not a file, but a folder or a device; name a recipe, a TOML file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise RequestError(f"{name}: no such recipe") from None
    except ValueError:  # a NUL in the path
        raise RequestError(f"{name!r}: no such recipe") from None
    except OSError as error:
        raise RequestError(f"{name}: can't be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise RequestError(f"{name}: larger than {LARGEST // 10**6} MB: not a recipe; text belongs in data.sources")
    if (kind := what_it_is(content)) is not None:
        raise RequestError(f"{name}: {kind}")
    try:
        text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RequestError(
            f"{name}: not UTF-8 at line {line} (byte {content[error.start]:02X}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _toml(text: str, what: str) -> dict[str, Any]:
    """Raises RequestError that begins with `what`."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise RequestError(f"{what}: nested too deeply; a recipe has {DEEPEST} levels at most") from None
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{what}: {error}") from None
    except ValueError:  # Python's limit on the digits of a number
        raise RequestError(f"{what}: a number of thousands of digits") from None


def _check_depth(raw: Any, origin: str) -> None:
    """Raises RequestError for what lies deeper than any key of a recipe does, before anything follows it there."""
    level: list[Any] = [raw]
    for _ in range(DEEPEST):
        level = [
            entry
            for value in level
            if isinstance(value, Mapping | list)
            for entry in (value.values() if isinstance(value, Mapping) else value)
        ]
        if not level:
            return
    raise RequestError(f"{origin}: nested too deeply; a recipe has {DEEPEST} levels at most")


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    said = f"--set {show(override)}"
    if not equals or not all(path):
        raise RequestError(f"{said}: should be KEY=VALUE, such as models.student.train.tokens=500k")
    if len(path) > DEEPEST:
        raise RequestError(f"{said}: the key is too deep; a recipe has {DEEPEST} levels at most")
    if len(override) > LONGEST_OVERRIDE:
        raise RequestError(f"{said}: too long for the command line; put it in the recipe")
    section = raw
    for part in path[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise RequestError(f"{said}: {shown(part, 60)} is not a section of the recipe")
    section[path[-1]] = _value(text, said)


def _value(text: str, said: str) -> Any:
    """That of an override: TOML, or a bare word, which is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError):
        raise RequestError(f"{said}: not a value for a recipe: a number too long, or brackets too deep") from None
    return parsed["value"] if parsed.keys() == {"value"} else text  # another key came after a line end


def _expand_like(models: Any, origin: str) -> Any:
    if not isinstance(models, dict):
        return models  # pydantic says what is wrong
    if len(models) > MOST_MODELS:
        raise RequestError(f"{origin}: models: {len(models):,} of them; a recipe may have {MOST_MODELS} at most")
    names: dict[str, str] = {}
    for name, model in models.items():
        said = f"{origin}: models.{shown(name, 60)}"
        try:
            check_name(name)
        except ValueError as error:
            raise RequestError(f"{said}: not a name for a model: {error}") from None
        if name == "none":
            raise RequestError(f"{said}: not a name for a model: none is reserved")
        if not isinstance(model, dict):
            raise RequestError(f"{said} = {show(model)}: must be a section, as in [models.{name}]")
        if (other := names.setdefault(name.lower(), name)) != name:
            raise RequestError(
                f"{said}: differs from models.{other} only in case: on some file systems that is one folder"
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
