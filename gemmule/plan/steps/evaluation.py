"""The figures of a finished model on the validation text, beside its teachers; and texts that it writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule.base import artifact
from gemmule.base.artifact import Settings
from gemmule.base.progress import say
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.model import AnyModel, by_role
from gemmule.plan.steps.outside import OutsideStep
from gemmule.plan.steps.tokens import TokensStep, of_windows
from gemmule.recipe import Evaluate, identity

if TYPE_CHECKING:
    from gemmule.teach.teachers.teachers import Teacher
    from gemmule.tokenize import Tokenizer

UNKNOWN_OF_SERVED = (
    "perplexity", "bits_per_byte", "ece", "accuracy", "kl_to_teacher", "agreement", "parameters",
    "embedding_parameters", "flops_per_token",
)  # fmt: skip


@dataclass(eq=False, kw_only=True)
class EvaluationStep(Step):
    kind: ClassVar[str] = "evaluation"
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
        if any(isinstance(model, OutsideStep) and model.is_served for model in asked):
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
        from gemmule.base.device import choose_device
        from gemmule.evaluate.figures import measure
        from gemmule.plan.loading import load_teachers
        from gemmule.teach.teachers.served import ServedTeacher
        from gemmule.teach.teachers.vocabulary import Restricted
        from gemmule.tokenize.tokenizer import load_tokenizer

        settings, tokenizer = self.recipe.evaluate, self.text.tokenizer.load()
        device = choose_device(self.recipe.machine.device)
        model = self.model.load(device)
        teacher = load_teachers(self.teachers, device) if self.teachers else None
        windows, text_bytes = self.text.windows(), self.text.shards.text_bytes
        prompts = settings.prompts or self.documents.openings()
        own_tokens = isinstance(self.model, OutsideStep) and (self.model.has_own_tokens or self.model.answers_by_bytes)
        with self.publish() as folder:
            asked = model.teacher if isinstance(model, Restricted) else model
            if own_tokens or isinstance(asked, ServedTeacher):
                figures: dict[str, Any] = dict.fromkeys(UNKNOWN_OF_SERVED) | {"calibration": [], "samples": []}
            else:
                figures = measure(model, windows, text_bytes, teacher, f"evaluating {self.name}")
                figures |= _sizes(asked, windows.sequence_length)
                if isinstance(model, Restricted):  # it writes in all of its own tokens
                    tokenizer = load_tokenizer(self.model.path / "tokenizer")
                write = partial(_write_on, asked, tokenizer, settings, self.recipe.seed)
                figures["samples"] = [{"prompt": prompt, "text": write(prompt)} for prompt in prompts]
            artifact.write_json(folder / "evaluation.json", figures)
        if own_tokens:
            say(f"{self.name}: not evaluated: it has a tokenizer of its own")
        elif isinstance(asked, ServedTeacher):
            say(f"{self.name}: not evaluated: a server provides only its top {asked.top_k} at each token")
        else:
            say(f"{self.name}: perplexity {figures['perplexity']:.2f}")


def _sizes(model: Teacher, sequence_length: int) -> dict[str, int | float]:
    from gemmule.teach.teachers import huggingface
    from gemmule.teach.teachers.teachers import Gemma2Teacher

    if isinstance(model, huggingface.HuggingFaceTeacher):
        return huggingface.sizes(model, sequence_length)
    assert isinstance(model, Gemma2Teacher)
    config = model.model.config
    return {
        "parameters": config.parameters,
        "embedding_parameters": config.embedding_parameters,
        "flops_per_token": config.flops_per_token(sequence_length),
    }


def _write_on(model: Teacher, tokenizer: Tokenizer, settings: Evaluate, seed: int, prompt: str) -> str:
    """What a model writes after a prompt."""
    from gemmule.generate.sampling import generate
    from gemmule.generate.text import continuation
    from gemmule.teach.teachers import huggingface
    from gemmule.teach.teachers.teachers import Gemma2Teacher

    sampling: dict[str, Any] = {
        "max_new_tokens": settings.sample_tokens, "temperature": settings.temperature, "seed": seed
    }  # fmt: skip
    if isinstance(model, huggingface.HuggingFaceTeacher):
        ids = [*tokenizer.opening, *tokenizer.encode(prompt)] or [tokenizer.eos_id]
        return continuation(tokenizer, ids, huggingface.write_on(model, ids, **sampling))
    assert isinstance(model, Gemma2Teacher)
    return str(generate(model.model, tokenizer, prompt, **sampling))
