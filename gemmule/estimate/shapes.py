"""What each model of a recipe is, before there is any: parameters and FLOPs, of its own shape or of its files' headers.

- A model that is trained here, or a Gemma 2 from outside, has a `Gemma2Config`, which counts.
- Any other model's parameters are those that its files' headers list; no weight is read.
- Of a server, and of a hub id that is not here yet, nothing is known.
"""

from __future__ import annotations

from dataclasses import replace

from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config
from gemmule.plan.plan import Plan
from gemmule.plan.steps.any_model import AnyModel
from gemmule.plan.steps.model import ModelStep, gemma2_config
from gemmule.plan.steps.outside import OutsideStep
from gemmule.teach.teachers.kinds import Source, kind_of, place_of
from gemmule.teach.teachers.shape import Shape, of_config


def shapes(plan: Plan, vocabulary_size: int) -> dict[str, Shape | None]:
    """Of all the recipe's models; None where nothing can be known. A teacher's head gives the run's tokens alone."""
    return {name: of_model(step, vocabulary_size) for name, step in plan.models.items()}


def of_model(model: AnyModel, vocabulary_size: int) -> Shape | None:
    """Of one model of a recipe whose tokenizer has so many tokens."""
    length = model.recipe.data.sequence_length
    if isinstance(model, OutsideStep):
        return of_outside(model.origin.place, length, vocabulary_size)
    if model.model.architecture is not None:
        return of_config(gemma2_config(model.model.architecture, vocabulary_size, length), length)
    start = model.start if isinstance(model, ModelStep) else None
    config = config_of(of_model(start, vocabulary_size)) if start is not None else None
    if config is None:
        return None
    return of_config(replace(config, vocabulary_size=vocabulary_size), length)  # it starts with the run's rows


def config_of(shape: Shape | None) -> Gemma2Config | None:
    """Of a model that gemmule's own runs; None of any other, and where nothing is known."""
    return shape.config if shape is not None else None


def of_outside(source: Source, length: int, vocabulary_size: int | None = None) -> Shape | None:
    """Of a folder or file, an address, or a hub id whose files are here already."""
    try:
        place = place_of(source, ("*.json", "*.safetensors"), download=False)
    except RequestError:
        return None
    kind = kind_of(place)
    return kind.shape(place, length, vocabulary_size) if kind is not None else None
