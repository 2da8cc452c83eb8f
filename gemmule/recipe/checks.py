"""What the models of a recipe can ask of each other: names that exist, and teachers that can give what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gemmule.base import addresses
from gemmule.base.errors import RequestError
from gemmule.recipe.errors import unknown_name
from gemmule.recipe.generation import SEEDS

LONGEST_NAME = 200  # characters: file systems take 255 bytes

if TYPE_CHECKING:
    from gemmule.recipe.schema import Model, Recipe


def check_secrets(value: Any, key: str) -> None:
    """Raises RequestError naming the key of any address in a recipe's TOML that holds a password or an API key."""
    if isinstance(value, str):
        addresses.refuse_secrets(value, key)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            check_secrets(entry, f"{key}.{name}")
    elif isinstance(value, list):
        for entry in value:
            check_secrets(entry, key)


def check_names(recipe: Recipe, origin: str) -> None:
    """Raises RequestError naming the key."""
    for name, model in recipe.models.items():
        key = f"{origin}: models.{name}"
        for teacher in model.teachers:
            if teacher not in recipe.models:
                hint = unknown_name(teacher, recipe.models, "model")
                raise RequestError(f"{key}.learn_from = {teacher!r}: {hint}")
            if teacher == name:
                raise RequestError(f"{key}.learn_from = {name!r}: a model can't learn from itself")
        if model.distill.targets is not None and len("+".join(model.teachers)) > LONGEST_NAME:
            raise RequestError(
                f"{key}.learn_from: the teachers' names, joined, name the folder of their targets, and are longer "
                f"than {LONGEST_NAME} characters: shorten them"
            )
        if model.by_bytes and recipe.aligned_by_bytes(name):
            raise RequestError(f'{key}.by_bytes: its students learn by loss = "alm", which does not need it')
        if model.start_from == name:
            raise RequestError(f"{key}.start_from = {name!r}: a model can't start from itself")
        if model.teachers and model.distill.own_tokens:
            _check_aligned_by_bytes(recipe, model, key)


def check_scoring(recipe: Recipe, origin: str) -> None:
    """Raises RequestError for a model that can't score the documents."""
    name = recipe.scores_documents
    if name is None:
        return
    key = f"{origin}: refine.teacher_score.model = {name!r}"
    if name not in recipe.models:
        raise RequestError(f"{key}: {unknown_name(name, recipe.models, 'model')}")
    if recipe.models[name].from_ is None:
        raise RequestError(
            f"{key}: it is trained here, on the text that it is to judge; name a model from outside, with from"
        )


def check_seeds(recipe: Recipe, origin: str) -> None:
    """Raises RequestError for a model with more trainings than one that it needs, if that has several.

    What its further trainings would learn or start from is neither the one of their seed nor the only one.
    """
    counts = {name: recipe.trainings(name) for name in recipe.models}
    keys = {name: "seeds" if model.seeds is None else f"models.{name}.seeds" for name, model in recipe.models.items()}
    for name, model in recipe.models.items():
        needed = dict.fromkeys(recipe.held_against(name), "is measured beside")
        needed |= dict.fromkeys(model.teachers, "learns from")
        needed |= {model.start_from: "starts from"} if model.start_from in recipe.models else {}
        for other, how in needed.items():
            if 1 < counts[other] < counts[name]:
                raise RequestError(
                    f"{origin}: {keys[name]} = {counts[name]}: {name} {how} {other}, which has {keys[other]} = "
                    f"{counts[other]}; models.{other}.seeds must be 1, for all, or at least {counts[name]}, for each"
                )
    name, further = max(((name, count - 1) for name, count in counts.items()), key=lambda entry: entry[1])
    if recipe.seed + further > SEEDS[1]:
        raise RequestError(
            f"{origin}: seed = {recipe.seed}: {keys[name]} = {further + 1} goes up to seed + {further}, and the "
            "largest seed is 2^63 - 1"
        )


def _check_aligned_by_bytes(recipe: Recipe, student: Model, key: str) -> None:
    """A teacher with its own tokenizer: it is one, from outside, and all of its students learn so."""
    (teacher, *others) = student.teachers
    if others or recipe.models[teacher].from_ is None:
        raise RequestError(
            f'{key}.distill.loss = "alm" is for one teacher from outside with another tokenizer; leave it out here'
        )
    if any(not model.distill.own_tokens for model in recipe.models.values() if teacher in model.teachers):
        raise RequestError(
            f'{key}.distill.loss = "alm": {teacher} has students with other losses, which need its tokenizer; '
            "define the teacher twice"
        )
