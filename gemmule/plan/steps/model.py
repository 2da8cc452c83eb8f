"""A model that the recipe trains: from random weights or another's, on text alone or with teachers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar

from gemmule.base import artifact, ranks
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import human, say
from gemmule.model.config import TRAINING_PASSES, Gemma2Config, check_cut, describe_cut
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel, by_role
from gemmule.plan.steps.tokens import TokensStep, of_windows
from gemmule.recipe import Architecture, Train, identity, join_names
from gemmule.recipe.identity import declared
from gemmule.teach.teachers.shape import Shape, of_config
from gemmule.train import pace
from gemmule.train.schedule import SCHEDULE, same_until

if TYPE_CHECKING:
    import torch

    from gemmule.convert.card import Evaluated, Outside
    from gemmule.plan.steps.targets import TargetsStep
    from gemmule.teach.teachers.gemma2 import Gemma2Teacher
    from gemmule.teach.teachers.teacher import LiveTeacher
    from gemmule.tokenize import Tokenizer
    from gemmule.train.job import Job


@dataclass(eq=False, kw_only=True)
class ModelStep(AnyModel):
    kind: ClassVar[str] = "model"
    verb: ClassVar[str] = "train"
    computes: ClassVar[bool] = True
    train: Train
    validation: TokensStep
    start: AnyModel | None  # whose weights it starts with, whole or cut
    teachers: Mapping[AnyModel, float]  # with the weights of their probabilities
    targets: TargetsStep | None  # of these teachers, stored; None: they run beside it

    @cached_property
    def settings(self) -> Settings:
        key = f"models.{self.name}"
        taught = identity(self.model, key, "taught") if self.teachers else {}
        return of_windows(self.recipe) | identity(self.model, key) | taught

    @cached_property
    def inputs(self) -> Mapping[str, Step]:
        inputs: dict[str, Step] = {"tokens": self.text, "validation": self.validation, "tokenizer": self.tokenizer}
        if self.start is not None:
            inputs["start_from"] = self.start
        return inputs | (by_role(self.teachers) if self.targets is None else {"targets": self.targets})

    @property
    def checkpoints(self) -> list[Path]:
        """Of an interrupted training: what it left, oldest first."""
        return pace.found(self.path.parent / "checkpoints")

    @property
    def begun(self) -> Path | None:
        return next(reversed(self.checkpoints), None)

    @property
    def meeting_point(self) -> Path | None:
        """The newest checkpoint that this training would come to as well, though another schedule's wrote it.

        A model whose tokens are raised goes on from there: from before its rate fell, if it stood still till then.
        """
        return next((path for path in reversed(self.checkpoints) if self._comes_to(path)), None)

    def _comes_to(self, path: Path) -> bool:
        try:
            made, inputs = artifact.read(path).manifest, self.input_hashes
        except WorkError:
            return False
        key = f"models.{self.name}.train."
        theirs = {name: value for name, value in made.settings.items() if self.settings.get(name) != value}
        changed = {name.removeprefix(key) for name in theirs.keys() | (self.settings.keys() - made.settings.keys())}
        if made.inputs != inputs or not changed <= set(SCHEDULE):
            return False
        fields = Train.model_fields
        other = {name: theirs.get(key + name, declared(fields[name]).omitted) for name in changed}
        trains = self.train, self.train.model_copy(update=other)
        return same_until(pace.step_of(path), *trains, self.model.distill, self.recipe.data.sequence_length)

    @property
    def made_in(self) -> Path:
        return self.path.parent

    def belongs_to(self, models: Collection[str]) -> bool:
        return self.name in models

    # --- what it takes -------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        return self.train.steps(self.recipe.data.sequence_length)

    @property
    def windows_per_batch(self) -> int:
        return self.train.windows_per_batch(self.recipe.data.sequence_length)

    @property
    def windows_per_micro_batch(self) -> int:
        return self.train.windows_per_micro_batch(self.recipe.data.sequence_length)

    @property
    def tokens_per_micro_batch(self) -> int:
        return self.windows_per_micro_batch * self.recipe.data.sequence_length

    @property
    def tokens(self) -> int:
        """That it reads: padding and what is masked out among them."""
        return self.steps * self.windows_per_batch * self.recipe.data.sequence_length

    @property
    def live_teachers(self) -> Mapping[AnyModel, float]:
        """Those that run beside it."""
        return self.teachers if self.targets is None else {}

    @property
    def read_by(self) -> Mapping[str, int]:
        return {self.name: TRAINING_PASSES * self.tokens} | {
            teacher.name: self.tokens for teacher in self.live_teachers
        }

    @property
    def share_done(self) -> float:
        there = self.checkpoints
        return min(1.0, pace.step_of(there[-1]) / self.steps) if there else 0.0

    # --- its shape -----------------------------------------------------------------------------------------------

    def known_config(self, key: str) -> Gemma2Config | None:
        """Its shape before it is made, asked for by `key`; None while what it starts from is no folder here."""
        if self.model.architecture is not None:
            return gemma2_config(self.model.architecture, 1, 1)  # all models of a run share a vocabulary
        return self.start.known_config(key) if self.start is not None else None

    def shape(self, vocabulary_size: int) -> Shape | None:
        length = self.recipe.data.sequence_length
        if self.model.architecture is not None:
            return of_config(gemma2_config(self.model.architecture, vocabulary_size, length), length)
        start = self.start.shape(vocabulary_size) if self.start is not None else None
        if start is None or start.config is None:
            return None
        return of_config(
            replace(start.config, vocabulary_size=vocabulary_size), length
        )  # it starts with the run's rows

    def check(self) -> None:
        """Raises RequestError where it can't be cut from what it starts from, as far as that is known."""
        key, wanted = f"models.{self.name}.start_from", self.model.architecture
        if self.start is None or (source := self.start.known_config(key)) is None or wanted is None:
            return
        try:
            check_cut(source, gemma2_config(wanted, source.vocabulary_size, source.context_length))
        except RequestError as error:
            raise RequestError(f"{key} = {self.model.start_from!r}: architecture.{error}") from None

    def _config(self, tokenizer: Tokenizer, start_rows: torch.Tensor | None) -> Gemma2Config:
        """The shape to train. Raises RequestError if it can't be cut from the weights that it is to start from."""
        from gemmule.model import weights

        shape = self.model.architecture
        start = weights.read_config(self.start.folder()) if self.start is not None else None
        if start is not None and start_rows is not None:
            start = replace(start, vocabulary_size=len(start_rows))
        if shape is not None:
            length = start.context_length if start else self.recipe.data.sequence_length
            config = gemma2_config(shape, tokenizer.vocabulary_size, length)
        else:
            assert start is not None  # the recipe has one of the two
            config = start
        if start is not None:
            try:
                check_cut(start, config)
            except RequestError as error:
                raise RequestError(f"models.{self.name}.start_from: {error}") from None
        if config.vocabulary_size < tokenizer.vocabulary_size:
            raise RequestError(
                f"models.{self.name}: its embedding has {config.vocabulary_size} rows and the tokenizer "
                f"{tokenizer.vocabulary_size} tokens"
            )
        return config

    def describe_cut(self, config: Gemma2Config | None = None) -> str:
        """What it kept of the one that it starts from, in words; empty where that is all, or it starts from none.

        `config` is its shape, while it is not made.
        """
        if self.start is None:
            return ""
        from gemmule.model import weights

        return describe_cut(weights.read_config(self.start.folder()), config or weights.read_config(self.path))

    @property
    def outside(self) -> list[Outside]:
        sources = [self.start, *self.teachers] if self.start is not None else [*self.teachers]
        return list(dict.fromkeys(each for source in sources for each in source.outside))

    # --- its making ----------------------------------------------------------------------------------------------

    def make(self) -> None:
        from gemmule import tokenize
        from gemmule.model import weights
        from gemmule.train.loop import train

        job, tokenizer = self.job(), self.tokenizer.load()
        taught = f", learning from {join_names(self.model.teachers)}" if self.teachers else ""
        cut = self.describe_cut(job.config)
        started = f", cut from {self.model.start_from} ({cut})" if cut else ""
        size, batch = human(job.config.parameters), human(job.tokens // job.steps)
        say(f"{self.name}: {size} parameters, {job.steps} steps of {batch} tokens{taught}{started}")
        if budget := job.describe_budget():
            say(f"{self.name}: {budget}")
        with ranks.together(str(self.path)):
            trained = train(job)
        with self.publish() as folder:
            weights.save(trained, folder, tokenizer.control_ids)
            tokenize.save(tokenizer, folder)
        self.write_card()

    def write_card(self, evaluated: Evaluated | None = None) -> None:
        """Its README.md, anew; not one that somebody changed, or that is a part of an older artifact."""
        from gemmule.convert.card import TrainingText, is_own, model_card, sealed
        from gemmule.model import weights

        path, manifest, documents = self.path / artifact.CARD, self.artifact.manifest, self.text.documents
        if artifact.CARD in manifest.files:
            return
        if path.exists() and not is_own(path.read_text(encoding="utf-8", errors="replace")):
            return
        summary = documents.summary
        text = TrainingText(
            sources=[PurePath(file.name).name for file in documents.files],
            documents=summary["train_documents"],
            held_out=summary["validation_documents"],
            tokens=len(self.text.shards),
            read=self.tokens,
        )
        card = model_card(
            self.name,
            weights.read_config(self.path),
            manifest,
            text,
            cut=self.describe_cut(),
            sources=self.outside,
            evaluated=evaluated,
        )
        artifact.replace_file(path, sealed(card).encode("utf-8", "replace"))

    def take_part(self) -> None:
        """What another process than the first does while that one makes it: its share of the training."""
        from gemmule.train.loop import train

        train(self.job())

    def job(self) -> Job:
        """What its training needs. Its inputs are there."""
        from gemmule.teach.teachers.vocabulary import read_teacher_ids
        from gemmule.train.job import Job

        tokenizer, skip_damaged = self.tokenizer.load(), self.recipe.data.damaged == "skip"
        # of the table of the model that it starts from: the rows of this run's tokens; None where that is all
        start_rows = read_teacher_ids(self.start.path) if self.start is not None else None
        return Job(
            name=self.name,
            folder=self.path.parent,
            config=self._config(tokenizer, start_rows),
            train=self.train,
            distill=self.model.distill,
            machine=self.recipe.machine,
            seed=self.recipe.seed,
            windows=self.text.windows(skip_damaged, self.recipe.seed),
            validation=self.validation.windows(skip_damaged),
            settings=self.settings,
            inputs=self.artifacts,
            teacher=self._teacher(),
            targets=self.targets.path if self.targets is not None else None,
            start_from=self.start.weights() if self.start is not None else None,
            start_rows=start_rows,
            decode=tokenizer.decode,
        )

    def _teacher(self) -> Callable[[torch.device], LiveTeacher] | None:
        """Loads the teachers that run beside it."""
        from gemmule.plan.loading import load_aligned, load_tried_teachers

        if not self.live_teachers:
            return None
        load = load_aligned if self.model.distill.own_tokens else load_tried_teachers
        return partial(load, self.live_teachers, self.text)

    # --- once it is made -----------------------------------------------------------------------------------------

    def folder(self) -> Path:
        return self.path

    def weights(self) -> Path:
        return self.path

    def load(self, device: torch.device) -> Gemma2Teacher:
        from gemmule.teach.teachers import gemma2

        return gemma2.load(self.path, device)


def gemma2_config(shape: Architecture, vocabulary_size: int, context_length: int) -> Gemma2Config:
    """A recipe's architecture as the model's configuration; a cap of 0 is none."""
    values = shape.model_dump()
    for cap in ("attention_cap", "final_cap"):
        values[cap] = values[cap] or None
    return Gemma2Config(**values, vocabulary_size=vocabulary_size, context_length=context_length)
