"""The figures of finished models on the validation text, beside their teachers; and texts that they write.

Models that share a teacher are read in one pass with it: whichever of their evaluations is made first makes all of
them, each into its own artifact.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule.base import artifact
from gemmule.base.artifact import Settings
from gemmule.base.progress import human, say
from gemmule.evaluate.amounts import FEWEST_TOKENS, MODELS_AT_ONCE, SHARE_OF_TEACHING, SHARE_OF_TRAINING
from gemmule.evaluate.table import evaluated
from gemmule.evaluate.units import Units
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel, by_role
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.tokens import TokensStep, of_windows
from gemmule.recipe import identity
from gemmule.teach.teachers.shape import Sizes

if TYPE_CHECKING:
    from gemmule.evaluate.figures import Subject
    from gemmule.teach.teachers.teacher import Teacher

SIZES = tuple(field.name for field in fields(Sizes))
LISTS = ("calibration", "agreement_by_entropy", "by_position", "samples")


@dataclass(eq=False, kw_only=True)
class EvaluationStep(Step):
    kind: ClassVar[str] = "evaluation"
    verb: ClassVar[str] = "evaluate"
    computes: ClassVar[bool] = True
    model: AnyModel
    teachers: Mapping[AnyModel, float]  # beside which it is measured
    text: TokensStep  # to validate on
    documents: DocumentsStep
    peers: list[EvaluationStep] = field(default_factory=list)  # all of the plan, itself among them

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def settings(self) -> Settings:
        settings = of_windows(self.recipe) | identity(self.recipe.evaluate, "evaluate")
        most = self.most_tokens
        if most is not None and self.text.path.exists() and most < len(self.text.shards):
            settings["evaluate.tokens"] = most
        return settings

    @cached_property
    def most_tokens(self) -> int | None:
        """That are read of the validation text; None: all.

        By default a share of what the least trained model of the recipe learns from, so that evaluation takes a tenth
        of the run at most.
        """
        asked = self.recipe.evaluate.tokens
        if asked is not None:
            return None if asked == "all" else asked
        trained = [model.train.tokens for model in self.recipe.models.values() if model.train is not None]
        if not trained:
            return None
        is_outside = any(model.from_ is not None for model in self.recipe.models.values())
        share = SHARE_OF_TEACHING if is_outside else SHARE_OF_TRAINING
        return max(FEWEST_TOKENS, round(share * min(trained)))

    @cached_property
    def inputs(self) -> Mapping[str, Step]:
        inputs = {"model": self.model, "validation": self.text, "tokenizer": self.text.tokenizer}
        return {**inputs, "documents": self.documents, **by_role(self.teachers)}

    @property
    def tokens(self) -> int:
        """That are read of the validation text, which is there."""
        there = len(self.text.shards)
        return there if self.most_tokens is None else min(there, self.most_tokens)

    @property
    def read_by(self) -> Mapping[str, int]:
        """A teacher is read once for all: in its own evaluation, or else in the first of those it stands beside."""
        if any(model.top_k is not None for model in self.asked):
            return {}
        unmade = [peer for peer in self.peers if not peer.path.exists()]
        owners = {
            teacher: next((peer for peer in unmade if peer.model is teacher and not teacher.unmeasured_by_recipe), None)
            or next((peer for peer in unmade if teacher in peer.teachers), self)
            for teacher in self.teachers
        }
        beside = [teacher for teacher, owner in owners.items() if owner is self]
        return {model.name: self.tokens for model in (self.model, *beside)}

    @property
    def asked(self) -> tuple[AnyModel, ...]:
        """The models that run in it: itself, and its teachers."""
        return self.model, *(teacher for teacher in self.teachers if teacher is not self.model)

    def belongs_to(self, models: Collection[str]) -> bool:
        return self.name in models

    @property
    def figures(self) -> dict[str, Any]:
        """What it found."""
        figures: dict[str, Any] = json.loads((self.path / "evaluation.json").read_text(encoding="utf-8"))
        return figures

    @property
    def units(self) -> Units | None:
        """Its loss in each unit of the text; None while there is none, or where it was made before they were kept."""
        return Units.read(self.path)

    # --- its making ----------------------------------------------------------------------------------------------

    def make(self) -> None:
        together = [self, *self.along]
        measured = [step for step in together if step.model.unmeasured is None]
        if measured:
            self._measure(measured)
        for step in together:
            if (why := step.model.unmeasured) is not None:
                step._publish(dict.fromkeys([*evaluated(), *SIZES]) | {name: [] for name in LISTS} | {"tasks": {}})
                say(f"{step.name}: not evaluated: {why}")

    @property
    def sharing(self) -> list[EvaluationStep]:
        """Those of models that it shares a teacher with, or that it is the teacher of: one pass can make them."""
        return [peer for peer in self.peers if peer is not self and not {*peer.asked}.isdisjoint(self.asked)]

    @property
    def along(self) -> list[EvaluationStep]:
        ready = (
            peer
            for peer in self.sharing
            if not peer.path.exists() and all(source.is_made for source in peer.inputs.values())
        )
        return list(islice(ready, MODELS_AT_ONCE - 1))

    def _measure(self, steps: list[EvaluationStep]) -> None:
        """Runs the models of some evaluations over the text, each once, and publishes what was found."""
        from gemmule.base.device import choose_device
        from gemmule.evaluate.figures import Subject, measure
        from gemmule.evaluate.passages import StreamPassages

        device = choose_device(self.recipe.machine.device)
        loaded = {model: model.load(device) for model in dict.fromkeys(model for step in steps for model in step.asked)}
        teachers = _ensembles(steps, loaded)
        subjects = [Subject(loaded[step.model], teachers[step]) for step in steps]
        windows = self.text.windows()
        names = ", ".join(step.name for step in steps)
        passages = StreamPassages(windows, self.most_tokens)
        if passages.total < len(windows) * windows.sequence_length:
            say(f"evaluating on {human(passages.total)} of {human(len(windows.shards))} validation tokens: every token "
                'is read where evaluate.tokens = "all"')  # fmt: skip
        found = measure(subjects, passages, f"evaluating {names}")
        for step, subject, figures in zip(steps, subjects, found, strict=True):
            sizes = subject.model.sizes(windows.sequence_length)
            figures |= asdict(sizes) if sizes is not None else dict.fromkeys(SIZES)
            figures["samples"] = step._samples(subject.model)
            figures["tasks"] = step._tasks(subject.model)
            step._publish(figures, subject)
            say(f"{step.name}: perplexity {_with_interval(figures)}")

    def _publish(self, figures: dict[str, Any], subject: Subject | None = None) -> None:
        with self.publish() as folder:
            artifact.write_json(folder / "evaluation.json", figures)
            if subject is not None:
                subject.units.write(folder)

    def _tasks(self, model: Teacher) -> dict[str, Any]:
        """The numbers of the recipe's tasks. What a model was trained on is asked of the training text."""
        from gemmule.evaluate import tasks
        from gemmule.refine.documents import read_split
        from gemmule.tokenize.tokenizer import load_tokenizer

        if not (names := self.recipe.evaluate.tasks):
            return {}
        tokenizer = load_tokenizer(self.model.tokenizer_folder)
        context = model.context or self.recipe.data.sequence_length
        found: dict[str, Any] = {}
        for split in ("train", "validation"):
            of_split = [name for name in names if (name in tasks.OF_TRAINING_TEXT) == (split == "train")]
            if of_split:
                texts = tasks.some(read_split(self.documents.path, split))
                found |= tasks.run(of_split, tasks.Asked(model, tokenizer, context, texts, self.recipe.seed))
        return found

    def _samples(self, model: Teacher) -> list[dict[str, str]]:
        from gemmule.tokenize.tokenizer import load_tokenizer

        settings = self.recipe.evaluate
        write = partial(
            model.write,
            load_tokenizer(self.model.tokenizer_folder),
            max_new_tokens=settings.sample_tokens,
            temperature=settings.temperature,
            seed=self.recipe.seed,
        )
        prompts = settings.prompts or self.documents.openings()
        return [{"prompt": prompt, "text": text} for prompt in prompts if (text := write(prompt=prompt)) is not None]


def _ensembles(steps: list[EvaluationStep], loaded: Mapping[AnyModel, Teacher]) -> dict[EvaluationStep, Teacher | None]:
    """Of each evaluation the teacher, or the ensemble of its teachers, which is one for all that have it."""
    from gemmule.plan.loading import joined

    shares = {step: tuple(step.teachers.items()) for step in steps}
    made = {each: joined([(share, loaded[teacher]) for teacher, share in each]) for each in {*shares.values()} if each}
    return {step: made.get(shares[step]) for step in steps}


def _with_interval(figures: Mapping[str, Any]) -> str:
    interval = figures["perplexity_interval"]
    ends = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
    return f"{figures['perplexity']:.2f}{ends}"
