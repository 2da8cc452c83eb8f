"""A model from outside: recorded with its kind and tokenizer; only a Gemma 2's GGUF file is copied (imported)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule import tokenize
from gemmule.base import addresses, artifact
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.model.config import Gemma2Config
from gemmule.plan.origins import Origin, digest, model_files
from gemmule.plan.steps import Step
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.recipe import Model
from gemmule.teach.teachers import outside

if TYPE_CHECKING:
    import torch

    from gemmule.teach.teachers.teachers import Teacher
    from gemmule.tokenize import Tokenizer


@dataclass(eq=False, kw_only=True)
class OutsideStep(Step):
    kind: ClassVar[str] = "outside"
    name: str  # the model that it is; or that starts from it
    is_start: bool  # whether it gives weights to start from, which are a Gemma 2's, and nothing else
    origin: Origin
    tokenizer: TokenizerStep
    text: TokensStep  # to train on

    @property
    def model(self) -> Model:
        return self.recipe.models[self.name]

    @property
    def key(self) -> str:
        """The recipe's, that names it."""
        return f"models.{self.name}.{'start_from' if self.is_start else 'from'}"

    @cached_property
    def settings(self) -> Settings:
        settings: Settings = {self.key: self.origin.identity}
        if self.is_served:
            settings[f"models.{self.name}.top_k"] = self.model.top_k
        if self.has_own_tokens:
            settings["vocabulary"] = "its own"
        elif self.answers_by_bytes:
            settings["vocabulary"] = "by bytes"
        return settings

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"tokenizer": self.tokenizer}

    @property
    def is_served(self) -> bool:
        return addresses.is_url(self.origin.place)

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
        place = self.origin.place
        if isinstance(place, Path) and place.is_dir():
            if self.is_start:
                read_config(place, self.key)
            try:
                outside.check_folder(place, self.recipe.data.sequence_length)
                outside.check_writing(place, self.recipe.evaluate.sample_tokens)
            except RequestError as error:
                raise RequestError(f"{self.key} = {origin!r}: {error}") from None
        elif self.is_served and self.is_start:
            raise RequestError(f"{self.key} = {origin!r}: a server provides no weights")

    def known_config(self, key: str) -> Gemma2Config | None:
        """The shape of a Gemma 2, asked for by `key`; None while it is no folder here."""
        place = self.origin.place
        return read_config(place, key) if isinstance(place, Path) and place.is_dir() else None

    def make(self) -> None:
        """Records where it lies and that its tokenizer is the run's."""
        import numpy as np
        import torch

        from gemmule.convert.folder import find_source
        from gemmule.convert.gguf_names import ARCHITECTURE
        from gemmule.convert.importing import gguf_architecture, import_model
        from gemmule.convert.tokenizers import read_tokenizer
        from gemmule.plan.prerequisites import check_extras
        from gemmule.teach.teachers.served import ServedTeacher
        from gemmule.teach.teachers.vocabulary import TEACHER_IDS, align

        source, ours = self.origin.place, self.tokenizer.load()
        if not self.is_served and not Path(source).is_file():
            source = find_source(source)
            outside.check_folder(source, self.recipe.data.sequence_length)
        kind = outside.kind_of(source)
        check_extras(source, kind)
        record: dict[str, Any] = {"source": str(self.origin.place), "kind": kind}
        if source != self.origin.place:  # of the hub, where another revision may stand when the run is resumed
            record["files"] = digest(model_files(Path(source)), {})
        with self.publish() as folder:
            if kind == "gguf" and (self.is_start or gguf_architecture(Path(source)) == ARCHITECTURE):
                import_model(source, folder / "model")
                record["kind"] = "gemma2"
            if kind == "served":  # its tokenizer is the recipe's, before that is pruned
                theirs = self.tokenizer.whole()
                rows = theirs.vocabulary_size
                served = ServedTeacher(str(source), rows, torch.device("cpu"), self.model.top_k)
                served.expect(torch.tensor([[theirs.eos_id, theirs.eos_id]]))  # whether it gives what is needed
                record["model"], record["top_k"] = served.name, served.top_k
            else:
                theirs = ours if self._has_the_runs_tokenizer else read_tokenizer(source)
                rows = _rows(folder / "model" if (folder / "model").is_dir() else Path(source), theirs)
            own = self.has_own_tokens or self.answers_by_bytes
            teacher_ids = None if own else align(self.name, theirs, rows, ours)
            if teacher_ids is not None:
                say(f"{self.name}: {len(teacher_ids):,} of its {rows:,} tokens are kept, those of this run")
                np.save(folder / TEACHER_IDS, teacher_ids)
            if own or teacher_ids is not None:
                tokenize.save(theirs, folder / "tokenizer")
            artifact.write_json(folder / "source.json", record)

    @property
    def _has_the_runs_tokenizer(self) -> bool:
        """Whether the run's was taken over from it, whole."""
        taken = self.tokenizer.origin
        return taken is not None and taken.place == self.origin.place and not self.recipe.tokenizer.prune

    def record(self) -> dict[str, Any]:
        """What it recorded: where it lies, and of which kind it is."""
        record: dict[str, Any] = json.loads((self.path / "source.json").read_text(encoding="utf-8"))
        return {"kind": "gemma2"} | record  # which it was before there were others

    def folder(self) -> Path:
        """Of a Gemma 2: where its weights lie; not verified."""
        from gemmule.plan.loading import folder_of

        return folder_of(self)

    def weights(self) -> Path:
        """`folder`, to be loaded from. Raises RequestError for one that is not what the run recorded."""
        from gemmule.plan.loading import weights_of

        return weights_of(self)

    def load(self, device: torch.device) -> Teacher:
        """The model, to be asked what it expects."""
        from gemmule.plan.loading import load_outside

        return load_outside(self, device)


def read_config(folder: Path, key: str) -> Gemma2Config:
    """Of a Gemma 2 folder that `key` names. Raises RequestError."""
    try:
        return Gemma2Config.from_huggingface(outside.read_config(folder))
    except RequestError as error:
        raise RequestError(f"{key}: {folder} is not a Gemma 2 folder: {error}") from None


def _rows(source: Path, tokenizer: Tokenizer) -> int:
    """The rows of a model's table, as far as they can be known without loading it."""
    if source.is_file():
        return tokenizer.vocabulary_size
    config = outside.read_config(source)
    return int(config.get("text_config", config).get("vocab_size", tokenizer.vocabulary_size))
