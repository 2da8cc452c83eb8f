"""A model from outside: recorded with its kind and tokenizer; only a Gemma 2's GGUF file is copied (imported)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule import tokenize
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import say
from gemmule.model.config import Gemma2Config
from gemmule.plan.origins import Origin, digest, model_files
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel
from gemmule.plan.steps.tokens import TokensStep
from gemmule.teach.teachers.folders import read_config as read_any_config
from gemmule.teach.teachers.kinds import IMPORTED, Record, Source, kind_of, named, place_of, shape_of

if TYPE_CHECKING:
    import torch

    from gemmule.convert.card import Outside
    from gemmule.teach.teachers.shape import Shape
    from gemmule.teach.teachers.teacher import LiveTeacher, Teacher

# the key and values of the settings that say how its tokens stand to the run's; without, they are the run's
TOKENS, OWN, BY_BYTES, NO_MATTER = "vocabulary", "its own", "by bytes", "its own, to score documents"
LOOKED_AT = 1_000_000  # tokens of the text, in the seed's order, to see which tokens stand for which
_tried: set[tuple[str, Path]] = set()  # teachers, and the texts on which this process has tried them
_hashed: dict[str, Any] = {}  # fingerprints of outside models' files that this process has hashed itself


@dataclass(eq=False, kw_only=True)
class OutsideStep(AnyModel):
    kind: ClassVar[str] = "outside"
    key: str  # the recipe's, that names it
    is_start: bool  # whether it gives weights to start from, which are a Gemma 2's, and nothing else
    origin: Origin

    @cached_property
    def settings(self) -> Settings:
        settings: Settings = {self.key: self.origin.identity}
        if self.top_k is not None:
            settings[f"models.{self.name}.top_k"] = self.model.top_k
        if self.has_own_tokens:
            settings[TOKENS] = OWN
        elif self.answers_by_bytes:
            settings[TOKENS] = BY_BYTES
        elif self.only_scores:
            settings[TOKENS] = NO_MATTER
        return settings

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"tokenizer": self.tokenizer}

    @property
    def top_k(self) -> int | None:
        return self.origin.kind.top_k(self.model) if self.origin.kind is not None else None

    @property
    def has_own_tokens(self) -> bool:
        """Whether it keeps its own tokenizer, and its students learn from it by text alone."""
        return not self.is_start and self.recipe.aligned_by_bytes(self.name)

    @property
    def answers_by_bytes(self) -> bool:
        """Whether it answers in the run's tokens by their bytes."""
        return not self.is_start and self.model.by_bytes

    @property
    def only_scores(self) -> bool:
        """Whether it was asked for nothing but the scores of documents, which have an artifact of their own."""
        return not self.is_start and self.recipe.only_scores(self.name)

    @property
    def outside(self) -> list[Outside]:
        from gemmule.convert.card import outside

        return [outside(self.name, self.origin.place)]

    def check(self, origin: str) -> None:
        """Raises RequestError for what can't be used as the recipe has it; `origin` is what it says there."""
        place, kind = self.origin.place, self.origin.kind
        if self.is_start and kind is not None and not kind.has_weights:
            raise RequestError(f"{self.key} = {origin!r}: {kind.noun} provides no weights")
        if self.is_start and isinstance(place, Path) and place.is_dir():
            read_config(place, self.key)
        try:
            if (kind := kind or kind_of(place)) is not None:
                kind.check(place, *self._reads)
        except RequestError as error:
            raise RequestError(f"{self.key} = {origin!r}: {error}") from None

    @property
    def _reads(self) -> tuple[int, int]:
        """The tokens that it reads at once at least, and writes."""
        if self.only_scores:
            return 2, 0
        return self.recipe.data.sequence_length, self.recipe.evaluate.sample_tokens

    def known_config(self, key: str) -> Gemma2Config | None:
        """The shape of a Gemma 2, asked for by `key`; None while it is no folder here.

        Raises RequestError where there are no weights to start from.
        """
        place, kind = self.origin.place, self.origin.kind
        if kind is not None and not kind.has_weights:
            raise RequestError(f"{key}: {self.name} is {kind.noun}, which provides no weights")
        return read_config(place, key) if isinstance(place, Path) and place.is_dir() else None

    def shape(self, vocabulary_size: int) -> Shape | None:
        return shape_of(self.origin.place, self.recipe.data.sequence_length, vocabulary_size)

    def make(self) -> None:
        """Records where it lies and that its tokenizer is the run's."""
        import numpy as np

        from gemmule.convert.tokenizers import read_tokenizer
        from gemmule.teach.teachers.vocabulary import TEACHER_IDS, align

        source, ours = place_of(self.origin.place), self.tokenizer.load()
        kind = kind_of(source)
        if kind is None:
            raise RequestError(f"{self.key}: {source} is no longer a model")
        kind.check(source, self._reads[0])
        kind.check_installed(source)
        files = digest(model_files(Path(source), kind.files), {}) if source != self.origin.place else None
        with self.publish() as folder:
            if self.only_scores:
                Record(str(self.origin.place), kind.name, files).write(folder)
                return
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
        return self.record().top_k

    @property
    def tokenizer_folder(self) -> Path:
        own = self.path / "tokenizer"
        return own if own.is_dir() else self.tokenizer.path

    @property
    def unmeasured(self) -> str | None:
        if self.only_scores:
            return "it only scores documents"
        if self.unmeasured_by_recipe:
            return "it has a tokenizer of its own"
        if self.recorded_top_k is not None:
            return f"{named(self.record().kind).noun} provides only its top {self.recorded_top_k} at each token"
        return None

    @property
    def unmeasured_by_recipe(self) -> bool:
        return self.has_own_tokens or self.answers_by_bytes or self.only_scores

    def folder(self) -> Path:
        return Path(self._place())

    def weights(self) -> Path:
        return Path(self._verified())

    def _place(self) -> Source:
        """Where it lies, or what was imported of it."""
        imported = self.path / IMPORTED
        return imported if imported.is_dir() else place_of(self.origin.place)

    def _verified(self) -> Source:
        """`_place`, to be loaded from. Raises RequestError if its files are not those that the run was begun with.

        The plan's own look at them goes by size and time, and may have been hours ago.
        """
        place, record = self._place(), self.record()
        if not isinstance(place, Path) or place == self.path / IMPORTED:
            return place
        recorded = record.files if isinstance(self.origin.place, str) else self.origin.identity
        found = digest(model_files(place, named(record.kind).files), _hashed)
        if recorded not in (None, found):
            raise RequestError(
                f"{self.key}: {place} holds another model ({found}) than this run was begun with: {record.source} "
                f"({recorded}). Put that back, or run elsewhere with --out"
            )
        return place

    def load(self, device: torch.device) -> Teacher:
        from gemmule.teach.teachers.by_bytes import ByBytes
        from gemmule.teach.teachers.vocabulary import restrict
        from gemmule.tokenize.tokenizer import load_tokenizer

        record, read = self.record(), self.tokenizer_folder
        kind, place = named(record.kind), self._verified()
        whole = kind.load(place, device, record=record, key=self.key, section=self.model, tokenizer=read)
        teacher = restrict(whole, self.path)
        if not self.answers_by_bytes:
            return teacher
        by_bytes = ByBytes(teacher, load_tokenizer(read), self.tokenizer.load())
        windows = self.text.windows()
        looked_at = range(min(len(windows), LOOKED_AT // windows.sequence_length))
        by_bytes.look_at(windows.batch(number, 1).inputs[0].tolist() for number in looked_at)
        return by_bytes

    def try_out(self, loaded: LiveTeacher, text: TokensStep) -> None:
        """Raises WorkError if it predicts a text worse than its tokens' frequencies do; once a process for each."""
        from gemmule.teach.teachers.trial import try_out

        if (self.name, text.path) in _tried:
            return
        found = try_out(loaded, text.windows())
        if not found.windows:
            return
        what = (
            f"models.{self.name}: {found.teacher:.2f} nats a token on {found.windows} windows of the text, where a "
            f"unigram (the tokens' frequencies) has {found.unigram:.2f}"
        )
        if found.failed and self.model.worse_than_unigram == "stop":
            raise WorkError(
                f"{what}: it has nothing to teach. Does it have another tokenizer, lack its <bos>, or is its file "
                f'damaged? To use it anyway: models.{self.name}.worse_than_unigram = "allow"'
            )
        say(f"{what}; training continues with it" if found.failed else what)
        _tried.add((self.name, text.path))


def read_config(folder: Path, key: str) -> Gemma2Config:
    """Of a Gemma 2 folder that `key` names. Raises RequestError."""
    try:
        return Gemma2Config.from_huggingface(read_any_config(folder))
    except RequestError as error:
        raise RequestError(f"{key}: {folder} is not a Gemma 2 folder: {error}") from None
