"""The documents of a split as one stream of tokens, which models read in windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from gemmule.base.artifact import Settings
from gemmule.base.progress import human, say
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.recipe import Recipe, identity

if TYPE_CHECKING:
    from gemmule.refine.documents import Split
    from gemmule.tokenize.shards import TokenShards
    from gemmule.tokenize.windows import Windows


@dataclass(eq=False, kw_only=True)
class TokensStep(Step):
    kind: ClassVar[str] = "tokens"
    verb: ClassVar[str] = "tokenize"
    split: Split
    documents: DocumentsStep
    tokenizer: TokenizerStep

    @cached_property
    def settings(self) -> Settings:
        return {"split": self.split}

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"documents": self.documents, "tokenizer": self.tokenizer}

    def make(self) -> None:
        from gemmule.refine.documents import read_split
        from gemmule.tokenize.shards import write_shards

        with self.publish() as folder:
            texts = read_split(self.documents.path, self.split, f"tokenizing {self.split}")
            shards = write_shards(texts, self.tokenizer.load(), folder)
        say(f"tokens: {human(len(shards))} for {self.split}, {shards.text_bytes / len(shards):.2f} bytes each")

    @property
    def shards(self) -> TokenShards:
        from gemmule.tokenize.shards import TokenShards

        return TokenShards(self.path)

    def windows(self, skip_damaged: bool = False, seed: int | None = None) -> Windows:
        """What a model reads of it; in training by the order of a seed, the recipe's if none is given."""
        from gemmule.tokenize.windows import Windows

        vocabulary = self.tokenizer.load()
        return Windows(
            self.shards,
            self.recipe.data.sequence_length,
            vocabulary.bos_id,
            vocabulary.pad_id,
            self.recipe.seed if seed is None else seed,
            separate_documents=self.recipe.data.separate_documents,
            skip_damaged=skip_damaged,
        )


def of_windows(recipe: Recipe) -> Settings:
    """The settings of what is made by reading windows."""
    return identity(recipe, "", "windows") | identity(recipe.data, "data", "windows")
