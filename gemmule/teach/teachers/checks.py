"""What a recipe asks of teachers from outside, against what their kinds can do: refused before any work."""

from __future__ import annotations

from collections.abc import Callable

from gemmule.base.errors import RequestError
from gemmule.recipe import Model, Recipe
from gemmule.teach.teachers.kinds import Kind


def check(recipe: Recipe, origin: str, kind_of: Callable[[str], Kind | None]) -> None:
    """Raises RequestError naming the key in the recipe `origin`. `kind_of` what `from` says; None while not known."""
    froms = {name: model.from_ for name, model in recipe.models.items() if model.from_ is not None}
    kinds = {name: kind for name, source in froms.items() if (kind := kind_of(source)) is not None}
    if (scorer := recipe.scores_documents) in kinds and kinds[scorer].top_k(recipe.models[scorer]) is not None:
        raise RequestError(
            f"{origin}: refine.teacher_score.model = {scorer!r}: {scorer} is {kinds[scorer].described_as} and provides "
            "its top k only, in tokens that are not known yet: name a folder, a hub id or a GGUF file"
        )
    for name, model in recipe.models.items():
        key = f"{origin}: models.{name}"
        names_top_k = name in kinds and kinds[name].top_k(model) is not None
        if model.top_k is not None and not names_top_k:
            raise RequestError(f"{key}: top_k is for a model behind a server: remove it")
        if model.by_bytes and (names_top_k or recipe.data.separate_documents):
            raise RequestError(
                f"{key}.by_bytes: a served model provides no whole distributions, and documents can't be kept apart: "
                "leave it out, or data.separate_documents"
            )
        for teacher in model.teachers:
            if teacher in kinds:
                _check_teacher(recipe, model, teacher, kinds[teacher], key)


def _check_teacher(recipe: Recipe, student: Model, teacher: str, kind: Kind, key: str) -> None:
    """Whether a student can learn as it is to from a teacher of this kind."""
    top_k, what = kind.top_k(recipe.models[teacher]), f"{teacher} is {kind.described_as}"
    if top_k is not None:
        if len(student.teachers) > 1:
            raise RequestError(f"{key}.learn_from: {what} and provides its top k only: it can't be in an ensemble")
        if not student.distill.takes_samples or student.distill.temperature != 1:
            raise RequestError(
                f"{key}.distill: {what} and provides its top k at temperature 1 only: "
                'loss must be "forward_kl" and temperature 1'
            )
        targets = student.distill.targets
        if targets is not None and not (
            targets.kind == "top-k" and targets.rest == "bucket" and 1 <= (targets.k or 0) <= top_k
        ):
            raise RequestError(
                f"{key}.distill.targets: {what} and provides its top {top_k} only: targets must be "
                f'{{ kind = "top-k", k = ... }} with k up to {top_k}, the rest one bucket'
            )
    if recipe.data.separate_documents and not kind.keeps_documents_apart:
        raise RequestError(
            f"{key}.learn_from: {what} and can't keep documents apart: leave data.separate_documents out"
        )
    if recipe.tokenizer.from_ is None and not kind.has_tokenizer:
        raise RequestError(
            f'{key}.learn_from: {what} and has its own tokenizer: set tokenizer.from = "<folder or hub id>"'
        )
