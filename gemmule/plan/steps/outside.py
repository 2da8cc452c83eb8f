"""A model from outside: recorded with its kind and tokenizer; only a Gemma 2's GGUF file is copied (imported)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gemmule import tokenize
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.model.config import Gemma2Config
from gemmule.plan.origins import Origin, digest, model_files
from gemmule.plan.steps import Step
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.recipe import Model
from gemmule.teach.teachers.folders import read_config as read_any_config
from gemmule.teach.teachers.kinds import IMPORTED, Record, kind_of, named, place_of

if TYPE_CHECKING:
    import torch

    from gemmule.teach.teachers.teacher import Teacher

# the key and values of the settings that say how its tokens stand to the run's; without, they are the run's
TOKENS, OWN, BY_BYTES = "vocabulary", "its own", "by bytes"


@dataclass(eq=False, kw_only=True)
class OutsideStep(Step):
    kind: ClassVar[str] = "outside"
    name: str  # the model that it is; or that starts from it
    key: str  # the recipe's, that names it
    is_start: bool  # whether it gives weights to start from, which are a Gemma 2's, and nothing else
    origin: Origin
    tokenizer: TokenizerStep
    text: TokensStep  # to train on

    @property
    def model(self) -> Model:
        return self.recipe.models[self.name]

    @cached_property
    def settings(self) -> Settings:
        settings: Settings = {self.key: self.origin.identity}
        if self.top_k is not None:
            settings[f"models.{self.name}.top_k"] = self.model.top_k
        if self.has_own_tokens:
            settings[TOKENS] = OWN
        elif self.answers_by_bytes:
            settings[TOKENS] = BY_BYTES
        return settings

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"tokenizer": self.tokenizer}

    @property
    def top_k(self) -> int | None:
        """How many tokens it names at each position, by the recipe; None: all, as far as its kind is known."""
        return self.origin.kind.top_k(self.model) if self.origin.kind is not None else None

    @property
    def has_own_tokens(self) -> bool:
        """Whether it keeps its own tokenizer, and its students learn from it by text alone."""
        return not self.is_start and self.recipe.aligned_by_bytes(self.name)

    @property
    def answers_by_bytes(self) -> bool:
        """Whether it answers in the run's tokens by their bytes."""
        return not self.is_start and self.model.by_bytes

    def check(self, origin: str) -> None:
        """Raises RequestError for what can't be used as the recipe has it; `origin` is what it says there."""
        place, kind = self.origin.place, self.origin.kind
        if self.is_start and kind is not None and not kind.has_weights:
            raise RequestError(f"{self.key} = {origin!r}: {kind.noun} provides no weights")
        if self.is_start and isinstance(place, Path) and place.is_dir():
            read_config(place, self.key)
        try:
            if (kind := kind_of(place)) is not None:
                kind.check(place, self.recipe.data.sequence_length, self.recipe.evaluate.sample_tokens)
        except RequestError as error:
            raise RequestError(f"{self.key} = {origin!r}: {error}") from None

    def known_config(self, key: str) -> Gemma2Config | None:
        """The shape of a Gemma 2, asked for by `key`; None while it is no folder here.

        Raises RequestError where there are no weights to start from.
        """
        place, kind = self.origin.place, self.origin.kind
        if kind is not None and not kind.has_weights:
            raise RequestError(f"{key}: {self.name} is {kind.noun}, which provides no weights")
        return read_config(place, key) if isinstance(place, Path) and place.is_dir() else None

    def make(self) -> None:
        """Records where it lies and that its tokenizer is the run's."""
        import numpy as np

        from gemmule.convert.tokenizers import read_tokenizer
        from gemmule.plan.prerequisites import check_extras
        from gemmule.teach.teachers.vocabulary import TEACHER_IDS, align

        source, ours = place_of(self.origin.place), self.tokenizer.load()
        kind = kind_of(source)
        if kind is None:
            raise RequestError(f"{self.key}: {source} is no longer a model")
        kind.check(source, self.recipe.data.sequence_length)
        check_extras(source, kind)
        files = digest(model_files(Path(source), kind.files), {}) if source != self.origin.place else None
        with self.publish() as folder:
            kind, imported = kind.import_into(source, folder, self.is_start), folder / IMPORTED
            if not kind.has_tokenizer:
                theirs = self.tokenizer.whole()
            else:
                theirs = ours if self._has_the_runs_tokenizer else read_tokenizer(source)
            rows = kind.rows(imported if imported.is_dir() else source, theirs)
            record = kind.make_record(Record(str(self.origin.place), kind.name, files), self.model, theirs)
            own = self.has_own_tokens or self.answers_by_bytes
            teacher_ids = None if own else align(self.name, theirs, rows, ours)
            if teacher_ids is not None:
                say(f"{self.name}: {len(teacher_ids):,} of its {rows:,} tokens are kept, those of this run")
                np.save(folder / TEACHER_IDS, teacher_ids)
            if own or teacher_ids is not None:
                tokenize.save(theirs, folder / "tokenizer")
            record.write(folder)

    @property
    def _has_the_runs_tokenizer(self) -> bool:
        """Whether the run's was taken over from it, whole."""
        taken = self.tokenizer.origin
        return taken is not None and taken.place == self.origin.place and not self.recipe.tokenizer.prune

    def record(self) -> Record:
        """What it recorded: where it lies, and of which kind it is."""
        return Record.read(self.path)

    @property
    def recorded_top_k(self) -> int | None:
        """How many tokens it names at each position at most, as was found; None: all."""
        return self.record().top_k

    @property
    def tokenizer_folder(self) -> Path:
        """Of the tokenizer whose ids it reads: its own, where they are not the run's."""
        own = self.path / "tokenizer"
        return own if own.is_dir() else self.tokenizer.path

    @property
    def unmeasured(self) -> str | None:
        """Why it can't be evaluated; None: it can."""
        if self.has_own_tokens or self.answers_by_bytes:
            return "it has a tokenizer of its own"
        if self.recorded_top_k is not None:
            return f"{named(self.record().kind).noun} provides only its top {self.recorded_top_k} at each token"
        return None

    def folder(self) -> Path:
        """Of a Gemma 2: where its weights lie; not verified."""
        from gemmule.plan.loading import place_of_weights

        return Path(place_of_weights(self))

    def weights(self) -> Path:
        """`folder`, to be loaded from. Raises RequestError for one that is not what the run recorded."""
        from gemmule.plan.loading import verified

        return Path(verified(self))

    def load(self, device: torch.device) -> Teacher:
        """The model, to be asked what it expects."""
        from gemmule.plan.loading import load_outside

        return load_outside(self, device)


def read_config(folder: Path, key: str) -> Gemma2Config:
    """Of a Gemma 2 folder that `key` names. Raises RequestError."""
    try:
        return Gemma2Config.from_huggingface(read_any_config(folder))
    except RequestError as error:
        raise RequestError(f"{key}: {folder} is not a Gemma 2 folder: {error}") from None
