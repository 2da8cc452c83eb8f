"""Every key of the recipe, section by section, in a recipe that has all sections; and another value for each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from gemmule.recipe import (
    Architecture,
    Data,
    Distill,
    Duplicates,
    Evaluate,
    Model,
    Quality,
    Recipe,
    Refine,
    Targets,
    TokenizerSection,
    Train,
)
from gemmule.recipe.refining import C4, Boilerplate, FineWeb, Gopher, Repetition

MODEL = {"architecture": {"layers": 2, "width": 16}, "train": {"tokens": 1000}}
RAW: dict[str, Any] = {
    "name": "r",
    "data": {"sources": ["text.jsonl"]},
    "refine": {
        "quality": {"gopher": {}, "repetition": {}, "c4": {}, "fineweb": {}, "boilerplate": {}},
        "duplicates": {},
    },
    "tokenizer": {"vocabulary_size": 300},
    "models": {
        "teacher": MODEL,
        "student": MODEL | {"learn_from": "teacher", "distill": {"targets": {"kind": "top-k", "k": 5}}},
    },
}
PATHS: dict[type[BaseModel], tuple[str, ...]] = {
    Recipe: (),
    Data: ("data",),
    Refine: ("refine",),
    Quality: ("refine", "quality"),
    Gopher: ("refine", "quality", "gopher"),
    Repetition: ("refine", "quality", "repetition"),
    C4: ("refine", "quality", "c4"),
    FineWeb: ("refine", "quality", "fineweb"),
    Boilerplate: ("refine", "quality", "boilerplate"),
    Duplicates: ("refine", "duplicates"),
    TokenizerSection: ("tokenizer",),
    Evaluate: ("evaluate",),
    Model: ("models", "student"),
    Architecture: ("models", "student", "architecture"),
    Train: ("models", "student", "train"),
    Distill: ("models", "student", "distill"),
    Targets: ("models", "student", "distill", "targets"),
}
SECTIONS = {path[-1] for path in PATHS.values() if path} | {"models", "machine"}
KEYS = [(kind, name) for kind in PATHS for name in kind.model_fields if name not in SECTIONS]


def at(recipe: Any, path: tuple[str, ...]) -> Any:
    """The section at a path."""
    for name in path:
        recipe = recipe[name] if isinstance(recipe, dict) else getattr(recipe, name)
    return recipe


def changed(section: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of a recipe or a section with another value at a path, whatever the schema says to it."""
    if not path:
        return value
    first, *rest = path
    inner = changed(at(section, (first,)), tuple(rest), value)
    return section | {first: inner} if isinstance(section, dict) else section.model_copy(update={first: inner})


def other(value: Any) -> Any:
    """Another value of the kind."""
    match value:
        case None:
            return 7
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, "x"]
    raise AssertionError(value)
