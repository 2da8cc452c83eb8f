"""What a step calls the teachers among its inputs: "teacher", or of an ensemble "teacher NAME" each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Input = TypeVar("Input")


def teachers_in(inputs: Mapping[str, Input]) -> list[Input]:
    """Those of a step's inputs that are its teachers: one, or the members of an ensemble (`Plan._teachers`)."""
    return [made for role, made in inputs.items() if role == "teacher" or role.startswith("teacher ")]
