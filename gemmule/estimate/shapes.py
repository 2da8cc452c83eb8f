"""What each model of a recipe is, before there is any: parameters and FLOPs, of its own shape or of its files' headers.

- A model that is trained here, or a Gemma 2 from outside, has a `Gemma2Config`, which counts.
- Any other model's parameters are those that its files' headers list; no weight is read.
- Of a server, and of a hub id that is not here yet, nothing is known.
"""

from __future__ import annotations

from gemmule.model.config import Gemma2Config
from gemmule.plan.plan import Plan
from gemmule.teach.teachers.shape import Shape


def shapes(plan: Plan, vocabulary_size: int) -> dict[str, Shape | None]:
    """Of all the recipe's models; None where nothing can be known. A teacher's head gives the run's tokens alone."""
    return {name: step.shape(vocabulary_size) for name, step in plan.models.items()}


def config_of(shape: Shape | None) -> Gemma2Config | None:
    """Of a model that gemmule's own runs; None of any other, and where nothing is known."""
    return shape.config if shape is not None else None
