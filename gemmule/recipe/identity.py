"""Which keys of a recipe are part of an artifact's identity: declared at the key in `schema.py`, read here.

A manifest holds the settings that make an artifact what it is; where one of them changes, it is remade. A key is part
of its own section's artifact, unless it says otherwise:

    clip: float = 1.0                                            always: its value is in the settings
    optimizer: Annotated[str, omitted_at("adamw")] = "adamw"     always, but at this value it leaves no trace
    keep_last: Annotated[int, NEVER] = 2                         never: it changes nothing about what is made
    sources: Annotated[list[str], RESOLVED]                      what it comes to, found by the plan, and not its words
    sequence_length: Annotated[int, WINDOWS] = 256               of all that is made by reading windows of tokens
    distill: Annotated[Distill, TAUGHT] = Distill()              of models that have a teacher

A new key that is off by default is `omitted_at` its value for off: then what was made before there was the key is still
found made. That value is fixed for ever. It is not "the default": a default that changes later would make old artifacts
pass for new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Of = Literal["section", "windows", "taught", "resolved", "nothing"]


@dataclass(frozen=True)
class Identity:
    """Of which artifacts a key is part of the identity, and the value at which it is left out, if there is one."""

    of: Of = "section"
    omits: bool = False
    omitted: Any = None

    def omitted_at(self, value: Any) -> Identity:
        return replace(self, omits=True, omitted=value)


ALWAYS = Identity()
NEVER, RESOLVED, WINDOWS, TAUGHT = Identity("nothing"), Identity("resolved"), Identity("windows"), Identity("taught")
omitted_at = ALWAYS.omitted_at


def declared(field: FieldInfo) -> Identity:
    """What a key of a section says of itself."""
    return next((said for said in field.metadata if isinstance(said, Identity)), ALWAYS)


def identity(section: BaseModel, prefix: str, of: Of = "section") -> dict[str, Any]:
    """The settings that a section, at `prefix` in the recipe, gives to artifacts: dotted keys and plain values."""
    values = section.model_dump(mode="json", by_alias=True)
    settings: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        said, value = declared(field), values[field.alias or name]
        if said.of != of or (said.omits and value == said.omitted):
            continue
        key = f"{prefix}.{field.alias or name}" if prefix else name
        inner = getattr(section, name)
        if isinstance(inner, BaseModel):
            settings |= identity(inner, key)
        elif isinstance(value, Mapping):
            settings |= {f"{key}.{entry}": each for entry, each in value.items()}
        else:
            settings[key] = value
    return settings
