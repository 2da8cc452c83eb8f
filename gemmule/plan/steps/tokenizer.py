"""The tokenizer of a run: trained on its documents, or taken over, whole or pruned to what they use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gemmule import tokenize
from gemmule.base.artifact import Settings
from gemmule.base.progress import say
from gemmule.plan.origins import Origin
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.recipe import TokenizerSection, identity

if TYPE_CHECKING:
    from gemmule.tokenize import Tokenizer


@dataclass(eq=False, kw_only=True)
class TokenizerStep(Step):
    kind: ClassVar[str] = "tokenizer"
    origin: Origin | None  # None: it is trained here
    documents: DocumentsStep

    @property
    def section(self) -> TokenizerSection:
        return self.recipe.tokenizer

    @cached_property
    def settings(self) -> Settings:
        origin: Settings = {} if self.origin is None else {"tokenizer.from": self.origin.identity}
        return origin | identity(self.section, "tokenizer")

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"documents": self.documents} if self.origin is None or self.section.prune else {}

    def load(self) -> Tokenizer:
        return tokenize.load_tokenizer(self.path)

    def whole(self) -> Tokenizer:
        """What it is taken over from, before it is pruned; itself, where it is not."""
        return _read(self.origin) if self.origin is not None and self.section.prune else self.load()

    def make(self) -> None:
        with self.publish() as folder:
            made, whole = self.build(self.documents.path, folder, "tokenizer: reading ")
        kept = ""
        if self.section.prune:
            kept = f", of {whole.vocabulary_size:,}: those that the text uses, and their merges"
        say(f"tokenizer: {made.vocabulary_size:,} tokens{kept}")

    def build(self, documents: Path, folder: Path, title: str = "") -> tuple[Tokenizer, Tokenizer]:
        """Written into `folder`, and what it was pruned from: trained on the text to train on, pruned by all of it.

        On the text to validate on too a teacher is to read its own tokens. `title` is of the progress of reading.
        """
        from gemmule.refine.documents import read_split

        size = self.section.vocabulary_size
        if self.origin is not None:
            made = whole = _read(self.origin)
        else:
            assert size is not None  # the recipe has one of the two
            made = whole = tokenize.train(read_split(documents, "train", title and f"{title}text"), size)
        if not self.section.prune:
            tokenize.save(made, folder)
            return made, whole
        from gemmule.tokenize.prune import prune, used_ids

        texts = chain.from_iterable(
            read_split(documents, split, title and f"{title}{split}") for split in ("train", "validation")
        )
        return prune(whole, used_ids(texts, whole), folder), whole


def _read(origin: Origin) -> Tokenizer:
    from gemmule.convert.tokenizers import read_tokenizer  # imports the package tokenizers

    return read_tokenizer(origin.place)
