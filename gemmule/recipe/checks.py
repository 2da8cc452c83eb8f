"""What the models of a recipe can ask of each other: names that exist, and teachers that can give what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gemmule.base import addresses
from gemmule.base.errors import RequestError
from gemmule.recipe.errors import unknown_name

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
            if recipe.models[teacher].is_served:
                _check_served(recipe, model, teacher, key)
        if model.distill.targets is not None and len("+".join(model.teachers)) > LONGEST_NAME:
            raise RequestError(
                f"{key}.learn_from: the teachers' names, joined, name the folder of their targets, and are longer "
                f"than {LONGEST_NAME} characters: shorten them"
            )
        if model.by_bytes:
            _check_by_bytes(recipe, name, key)
        if model.start_from == name:
            raise RequestError(f"{key}.start_from = {name!r}: a model can't start from itself")
        if model.teachers and model.distill.loss == "alm":
            _check_aligned_by_bytes(recipe, model, key)


def _check_by_bytes(recipe: Recipe, name: str, key: str) -> None:
    if recipe.models[name].is_served or recipe.data.separate_documents:
        raise RequestError(
            f"{key}.by_bytes: a served model provides no whole distributions, and documents can't be kept apart: "
            "leave it out, or data.separate_documents"
        )
    if recipe.aligned_by_bytes(name):
        raise RequestError(f'{key}.by_bytes: its students learn by loss = "alm", which does not need it')


def _check_aligned_by_bytes(recipe: Recipe, student: Model, key: str) -> None:
    """A teacher with its own tokenizer: it is one, from outside, and all of its students learn so."""
    (teacher, *others) = student.teachers
    if others or recipe.models[teacher].from_ is None:
        raise RequestError(
            f'{key}.distill.loss = "alm" is for one teacher from outside with another tokenizer; leave it out here'
        )
    if any(model.distill.loss != "alm" for model in recipe.models.values() if teacher in model.teachers):
        raise RequestError(
            f'{key}.distill.loss = "alm": {teacher} has students with other losses, which need its tokenizer; '
            "define the teacher twice"
        )


def _check_served(recipe: Recipe, student: Model, teacher: str, key: str) -> None:
    """A server gives its top k at temperature 1: what can be learned from that."""
    if len(student.teachers) > 1:
        raise RequestError(
            f"{key}.learn_from: {teacher} is served and provides its top k only: it can't be in an ensemble"
        )
    if not student.distill.takes_samples or student.distill.temperature != 1:
        raise RequestError(
            f"{key}.distill: {teacher} is served and provides its top k at temperature 1 only: "
            'loss must be "forward_kl" and temperature 1'
        )
    targets, top_k = student.distill.targets, recipe.models[teacher].top_k or 20
    fits = targets is None or (targets.kind == "top-k" and targets.rest == "bucket" and 1 <= (targets.k or 0) <= top_k)
    if not fits:
        raise RequestError(
            f"{key}.distill.targets: {teacher} is served and provides its top {top_k} only: targets must be "
            f'{{ kind = "top-k", k = ... }} with k up to {top_k}, the rest one bucket'
        )
    if recipe.data.separate_documents:
        raise RequestError(
            f"{key}.learn_from: {teacher} is served and can't keep documents apart: leave data.separate_documents out"
        )
    if recipe.tokenizer.from_ is None:
        raise RequestError(
            f"{key}.learn_from: {teacher} is served and has its own tokenizer: set tokenizer.from = "
            '"<folder or hub id>"'
        )
