"""What a step calls the teachers among its inputs: "teacher", or of an ensemble "teacher NAME" each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Input = TypeVar("Input")


def roles(teachers: Iterable[str]) -> list[str]:
    """Of one teacher, or of the members of an ensemble, by their names."""
    names = list(teachers)
    return ["teacher"] if len(names) == 1 else [f"teacher {name}" for name in names]


def teachers_in(inputs: Mapping[str, Input]) -> list[Input]:
    """Those of a step's inputs that are its teachers: one, or the members of an ensemble."""
    return [made for role, made in inputs.items() if role == "teacher" or role.startswith("teacher ")]
