"""What is wrong with a recipe, in its own words: the key, the value, what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, origin: str, recipe: type[BaseModel]) -> str:
    """The first two of pydantic's complaints about a `recipe`, each one line."""
    seen: dict[Any, Any] = {}
    for problem in error.errors(include_url=False):  # a model that is `like` another repeats its mistakes: said once
        place = problem["loc"][2:] if problem["loc"][:1] == ("models",) else problem["loc"]
        seen.setdefault((place, problem["type"], repr(problem["input"])), problem)
    problems = list(seen.values())
    lines = [f"{origin}: {_explain_one(problem, recipe)}" for problem in problems[:2]]
    if len(problems) > 2:
        lines[-1] += f" (and {len(problems) - 2} more)"
    return "\n".join(lines)


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """ "no such model; did you mean 'teacher'? there are: ..." """
    known = list(known)
    return f"no such {what}; {_meant(name, known, quote=True)}there are: {', '.join(known)}"


def _explain_one(problem: Mapping[str, Any], recipe: type[BaseModel]) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location) or "recipe"
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1], recipe)
        return f"{key}: unknown key; {_meant(str(location[-1]), allowed)}allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{key}: needed, and not there"
    if problem["type"] == "list_type":
        return f"{key} = {problem['input']!r}: should be a list, as in [{json.dumps(problem['input'], default=str)}]"
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if isinstance(problem["input"], Mapping):
        return f"{key}: {message}"
    return f"{key} = {problem['input']!r}: {message}"


def _meant(name: str, known: Sequence[str], quote: bool = False) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}? " if close and quote else f"did you mean {close[0]}? " if close else ""


def _allowed_keys(location: Sequence[Any], section: type[BaseModel]) -> list[str]:
    """The keys of the section at `location`, found by walking the types; parts that are no field are names."""
    for part in location:
        field = section.model_fields.get(str(part))
        if field is not None:
            section = _section_in(field.annotation) or section
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section in `Section`, `Section | None` or `dict[str, Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for kind in get_args(annotation) if (found := _section_in(kind)) is not None), None)
