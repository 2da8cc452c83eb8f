"""What every section of a recipe is."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Section)


def section_of(value: bool | Kind, kind: type[Kind]) -> Kind | None:
    """What a key comes to that may be true (the defaults), false (None) or a table."""
    return (kind() if value else None) if isinstance(value, bool) else value
