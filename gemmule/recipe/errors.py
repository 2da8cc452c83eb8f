"""What is wrong with a recipe, in its own words: the key, the value, what is allowed, and what was probably meant.

Pydantic finds what is wrong; its sentences are replaced by one that follows from the key's own type and range. What
only follows from another mistake is left out.
"""

from __future__ import annotations

import datetime
import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gemmule.base.errors import shown

LONGEST_VALUE, LONGEST_KEY = 60, 60  # characters shown
FILLED_IN = ("heads", "kv_heads", "head_dim", "ffn_width", "window", "learning_rate")  # from other keys (`defaults.py`)


def explain(error: ValidationError, origin: str, recipe: type[BaseModel], raw: Mapping[str, Any]) -> str:
    """The first two mistakes in `raw`, which is no `recipe`, each one line."""
    mistakes = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    found = [_Problem.of(mistake, recipe, raw) for mistake in mistakes]
    problems = _no_repeats(_no_followers(found))
    lines = [f"{origin}: {_explain_one(problem)}" for problem in problems[:2]]
    if len(problems) > 2:
        lines[-1] += f" (and {len(problems) - 2} more)"
    return "\n".join(lines)


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """ "no such model; did you mean 'teacher'? there are: ..." """
    known = list(known)
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"no such {what}; {_meant(name, known, quote=True)}there are: {listed}"


def show(value: Any) -> str:
    """A value as a recipe has it, about, and cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > 10**LONGEST_VALUE:
        return f"a number of {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{value[:LONGEST_VALUE]!r}... ({len(value):,} characters)"
    return shown(repr(value), LONGEST_VALUE)


# --- what is allowed at a place in a recipe ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A place in a recipe: its key, the type of what stands there, and what narrows that."""

    key: tuple[str | int, ...]
    annotation: Any
    narrowed: tuple[Any, ...] = ()  # pydantic's constraints
    described: str | None = None  # in the key's own words

    def inner(self, part: Any, value: Any) -> _Place | None:
        """Of a section's key, a model's name or a list's number; None where `part` is only pydantic's word for one of
        several types. A `value` that can be of one of them alone, a section or something else, is meant as that.
        """
        kinds = [kind for kind in _kinds(self.annotation) if kind is not type(None)]
        if len(kinds) > 1:
            fitting = [kind for kind in kinds if (_section(kind) is not None) == isinstance(value, Mapping)]
            is_section = part in {section.__name__ for section in map(_section, kinds) if section is not None}
            if len(fitting) != 1 or is_section != isinstance(value, Mapping):
                return None
            return _Place(self.key, fitting[0], self.narrowed, None if is_section else self.allowed)
        for kind in kinds if len(kinds) == 1 else ():
            if (section := _section(kind)) is not None:
                name, field = _field(section, str(part))
                if field is None:
                    return _Place((*self.key, str(part)), Any)
                return _Place((*self.key, name), field.annotation, tuple(field.metadata), field.description)
            if get_origin(kind) in (dict, list):
                return _Place((*self.key, part), get_args(kind)[-1])
        return None

    @property
    def allowed(self) -> str:
        return self.described or " or ".join(_allowed(self.annotation, self.narrowed))

    @property
    def constraints(self) -> list[Any]:
        own = get_args(self.annotation)[1:] if get_origin(self.annotation) is Annotated else ()
        return [*_flat(self.narrowed), *_flat(own)]

    @property
    def section(self) -> type[BaseModel] | None:
        return next((found for kind in _kinds(self.annotation) if (found := _section(kind)) is not None), None)


def _field(section: type[BaseModel], key: str) -> tuple[str, FieldInfo | None]:
    """The field that a recipe's key stands for."""
    for name, field in section.model_fields.items():
        if key in (name, field.alias):
            return field.alias or name, field
    return key, None


def _kinds(annotation: Any) -> list[Any]:
    """The types of a union; one, if it is none."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for entry in get_args(annotation) for kind in _kinds(entry)]
    return [annotation]


def _section(kind: Any) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _allowed(annotation: Any, narrowed: Sequence[Any] = ()) -> list[str]:
    """What values of a type are, in words; of a union one for each of its types."""
    if get_origin(annotation) is Annotated:
        kind, *more = get_args(annotation)
        return _allowed(kind, [*narrowed, *_flat(more)])
    if get_origin(annotation) in (Union, types.UnionType):
        return [words for kind in get_args(annotation) if kind is not type(None) for words in _allowed(kind, narrowed)]
    if get_origin(annotation) is Literal:
        *others, last = (f'"{value}"' if isinstance(value, str) else show(value) for value in get_args(annotation))
        return [f"{', '.join(others)} or {last}" if others else last]
    if annotation is bool:
        return ["true or false"]
    if annotation in (int, float):
        return [_number("a whole number" if annotation is int else "a number", narrowed)]
    if get_origin(annotation) is list:
        return [_list(get_args(annotation)[0], narrowed)]
    if get_origin(annotation) is dict or _section(annotation) is not None:
        return ["a section of keys"]
    return [f"text in quotes{', and not empty' * bool(_lengths(narrowed)[0])}"]


def _number(what: str, narrowed: Sequence[Any]) -> str:
    bounds = {name: value for each in narrowed for name in ("gt", "ge", "lt", "le")
              if (value := getattr(each, name, None)) is not None}  # fmt: skip
    if "ge" in bounds and "le" in bounds:
        return f"{what} from {_figure(bounds['ge'])} to {_figure(bounds['le'])}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return f"{what}, {' and '.join(f'{words[name]} {_figure(value)}' for name, value in bounds.items())}"


def _figure(value: float) -> str:
    if value == 2**63 - 1:
        return "2^63 - 1"
    if value >= 10**9:
        powers = {base**power: f"{base}^{power}" for base in (2, 10) for power in range(64)}
        return powers.get(value, f"{value:g}")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _list(entry: Any, narrowed: Sequence[Any]) -> str:
    least, most = _lengths(narrowed)
    size = f"{least} " if least == most and least is not None else "at least one " if least else ""
    if entry is str or get_args(entry)[:1] == (str,):
        return f"a list of {size}{'text' if least else 'texts'} in quotes"
    return f"a list of {size}such: {' or '.join(_allowed(entry))}"


def _lengths(narrowed: Sequence[Any]) -> list[int | None]:
    """At least and at most."""
    return [
        next((value for each in narrowed if (value := getattr(each, name, None)) is not None), None)
        for name in ("min_length", "max_length")
    ]


def _flat(narrowed: Iterable[Any]) -> Iterator[Any]:
    for each in narrowed:
        yield from each.metadata if isinstance(each, FieldInfo) else (each,)


# --- the mistakes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """One of pydantic's complaints."""

    place: _Place
    parent: _Place  # the section that it is in
    kind: str  # pydantic's type of it
    message: str
    value: Any

    @classmethod
    def of(cls, found: Mapping[str, Any], recipe: type[BaseModel], raw: Any) -> _Problem:
        place = parent = _Place((), recipe)
        for part in found["loc"]:
            inner = place.inner(part, raw)
            if inner is None:  # one of several types was tried, and none of them fits: that is one mistake
                return cls(place, parent, "none of several", "", raw)
            if inner.key != place.key:
                raw = _at(raw, part)
            place, parent = inner, place
        return cls(place, parent, found["type"], str(found["msg"]).removeprefix("Value error, "), found["input"])


def _no_followers(problems: list[_Problem]) -> list[_Problem]:
    """Without what is missing because a key that it follows from is wrong, or because its own is misspelt; and without
    the types that a value was not meant to be of."""

    def follows(problem: _Problem) -> bool:
        if problem.kind == "none of several":
            key = problem.place.key
            return any(
                other.place.key[: len(key)] == key and (other.kind != problem.kind or len(other.place.key) > len(key))
                for other in problems
            )
        if problem.kind != "missing":
            return False
        if problem.place.key[-1] in FILLED_IN:
            return any(other.kind != "missing" or other.place.key[-1] not in FILLED_IN for other in problems)
        return any(
            other.kind == "extra_forbidden"
            and other.parent.key == problem.parent.key
            and _closest(str(other.place.key[-1]), _keys(other.parent)) == problem.place.key[-1]
            for other in problems
        )

    return [problem for problem in problems if not follows(problem)]


def _no_repeats(problems: list[_Problem]) -> list[_Problem]:
    """Each once: a value for which several types were tried, and what a model that is `like` another repeats."""
    seen: dict[Any, _Problem] = {}
    for problem in problems:
        key = problem.place.key
        place = key[2:] if key[:1] == ("models",) and len(key) > 1 else key
        about_section = problem.kind == "value_error" and problem.place.section is not None
        if about_section and "like" in problem.value and any(known[:2] == (place, problem.kind) for known in seen):
            continue
        seen.setdefault((place, problem.kind, problem.message if about_section else show(problem.value)), problem)
    return list(seen.values())


def _at(raw: Any, part: Any) -> Any:
    try:
        return raw[part]
    except (KeyError, IndexError, TypeError):
        return None


def _explain_one(problem: _Problem) -> str:
    key = _dotted(problem.place.key)
    if problem.kind == "extra_forbidden":
        allowed = _keys(problem.parent)
        return f"{key}: unknown key; {_meant(str(problem.place.key[-1]), allowed)}allowed: {', '.join(allowed)}"
    if problem.kind == "missing":
        return f"{key}: missing: {problem.place.allowed}"
    if problem.kind == "value_error" and problem.place.section is not None:
        return f"{key}: {problem.message}"
    return f"{key} = {show(problem.value)}: {_said(problem)}"


def _said(problem: _Problem) -> str:
    if problem.kind == "value_error":
        return problem.message
    least, most = _lengths(problem.place.constraints)
    if problem.kind in ("too_long", "string_too_long") and most is not None and most != least:
        return f"has {len(problem.value):,}, and may have {most:,} at most"
    if problem.place.section is not None and problem.place.allowed == "a section of keys":
        return f"must be a section, as in [{_dotted(problem.place.key)}]"
    allowed = problem.place.allowed
    if isinstance(problem.value, str) and allowed.startswith("a list of") and "text" in allowed:
        return f"must be {allowed}, as in [{show(problem.value)}]"
    return f"must be {allowed}"


def _dotted(key: Sequence[str | int]) -> str:
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part, LONGEST_KEY)}" for part in key)
    return words.removeprefix(".") or "recipe"


def _keys(place: _Place) -> list[str]:
    return [field.alias or name for name, field in (place.section or BaseModel).model_fields.items()]


def _closest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name[:100], known, 1)), None)


def _meant(name: str, known: Sequence[str], quote: bool = False) -> str:
    close = _closest(name, known)
    return "" if close is None else f"did you mean {close!r}? " if quote else f"did you mean {close}? "
