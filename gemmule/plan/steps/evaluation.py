"""The figures of a finished model on the validation text, beside its teachers; and texts that it writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any, ClassVar

from gemmule.base import artifact
from gemmule.base.artifact import Settings
from gemmule.base.progress import say
from gemmule.evaluate.table import evaluated
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel, by_role
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.tokens import TokensStep, of_windows
from gemmule.recipe import identity
from gemmule.teach.teachers.shape import Sizes

SIZES = tuple(field.name for field in fields(Sizes))


@dataclass(eq=False, kw_only=True)
class EvaluationStep(Step):
    kind: ClassVar[str] = "evaluation"
    verb: ClassVar[str] = "evaluate"
    computes: ClassVar[bool] = True
    model: AnyModel
    teachers: Mapping[AnyModel, float]  # beside which it is measured
    text: TokensStep  # to validate on
    documents: DocumentsStep

    @property
    def name(self) -> str:
        return self.model.name

    @cached_property
    def settings(self) -> Settings:
        return of_windows(self.recipe) | identity(self.recipe.evaluate, "evaluate")

    @cached_property
    def inputs(self) -> Mapping[str, Step]:
        inputs = {"model": self.model, "validation": self.text, "tokenizer": self.text.tokenizer}
        return {**inputs, "documents": self.documents, **by_role(self.teachers)}

    @property
    def read_by(self) -> Mapping[str, int]:
        asked = [self.model, *self.teachers]
        if any(model.top_k is not None for model in asked):
            return {}
        tokens = len(self.text.shards)
        return {model.name: tokens for model in asked}

    def belongs_to(self, models: Collection[str]) -> bool:
        return self.name in models

    @property
    def figures(self) -> dict[str, Any]:
        """What it found."""
        figures: dict[str, Any] = json.loads((self.path / "evaluation.json").read_text(encoding="utf-8"))
        return figures

    def make(self) -> None:
        why = self.model.unmeasured
        unknown = dict.fromkeys([*evaluated(), *SIZES]) | {"calibration": [], "samples": []}
        figures = self._measure() if why is None else unknown
        with self.publish() as folder:
            artifact.write_json(folder / "evaluation.json", figures)
        say(f"{self.name}: not evaluated: {why}" if why else f"{self.name}: perplexity {figures['perplexity']:.2f}")

    def _measure(self) -> dict[str, Any]:
        from gemmule.base.device import choose_device
        from gemmule.evaluate.figures import measure
        from gemmule.plan.loading import load_teachers
        from gemmule.tokenize.tokenizer import load_tokenizer

        settings, device = self.recipe.evaluate, choose_device(self.recipe.machine.device)
        model = self.model.load(device)
        teacher = load_teachers(self.teachers, device) if self.teachers else None
        windows, text_bytes = self.text.windows(), self.text.shards.text_bytes
        figures = measure(model, windows, text_bytes, teacher, f"evaluating {self.name}")
        sizes = model.sizes(windows.sequence_length)
        figures |= asdict(sizes) if sizes is not None else dict.fromkeys(SIZES)
        write = partial(
            model.write,
            load_tokenizer(self.model.tokenizer_folder),
            max_new_tokens=settings.sample_tokens,
            temperature=settings.temperature,
            seed=self.recipe.seed,
        )
        prompts = settings.prompts or self.documents.openings()
        figures["samples"] = [
            {"prompt": prompt, "text": text} for prompt in prompts if (text := write(prompt=prompt)) is not None
        ]
        return figures
