"""What each model of a recipe is, before there is any: parameters and FLOPs, of its own shape or of its files' headers.

- A model that is trained here, or a Gemma 2 from outside, has a `Gemma2Config`, which counts.
- Any other model's parameters are those that its files' headers list; no weight is read.
- Of a server, and of a hub id that is not here yet, nothing is known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gemmule.base.errors import RequestError
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import gemma2_config
from gemmule.teach.teachers import kinds
from gemmule.teach.teachers.shape import Shape, of_config


def shapes(plan: Plan, vocabulary_size: int) -> dict[str, Shape | None]:
    """Of all the recipe's models; None where nothing can be known. A teacher's head gives the run's tokens alone."""
    length = plan.recipe.data.sequence_length
    return {name: shape_of(plan, name, vocabulary_size, length) for name in plan.recipe.models}


def shape_of(plan: Plan, name: str, vocabulary_size: int, length: int) -> Shape | None:
    model = plan.recipe.models[name]
    if model.architecture is not None:
        return of_config(gemma2_config(model.architecture, vocabulary_size, length), length)
    origin = model.from_ or model.start_from
    assert origin is not None
    if origin in plan.recipe.models:
        return shape_of(plan, origin, vocabulary_size, length)
    shape = of_outside(plan.origins.locate(origin), origin, length, vocabulary_size)
    if model.from_ is not None or shape is None or shape.config is None:
        return shape
    return of_config(replace(shape.config, vocabulary_size=vocabulary_size), length)  # it starts with the run's rows


def of_outside(place: Path, origin: str, length: int, vocabulary_size: int | None = None) -> Shape | None:
    """Of a folder or file, an address, or a hub id whose files are here already."""
    try:
        source = kinds.place_of(place if place.exists() else origin, ("*.json", "*.safetensors"), download=False)
    except RequestError:
        return None
    kind = kinds.kind_of(source)
    return kind.shape(source, length, vocabulary_size) if kind is not None else None
