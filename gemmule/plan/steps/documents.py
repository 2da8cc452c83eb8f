"""The recipe's text as documents: read, split into training and validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule.base.artifact import Settings
from gemmule.base.progress import human, say
from gemmule.plan.steps import Step
from gemmule.recipe import identity

if TYPE_CHECKING:
    from gemmule.refine.documents import DocumentsSummary
    from gemmule.refine.source_file import SourceFile

PROMPT_LENGTH = 48  # characters, about


@dataclass(eq=False, kw_only=True)
class DocumentsStep(Step):
    kind: ClassVar[str] = "documents"
    verb: ClassVar[str] = "refine"
    files: list[SourceFile]  # none where they are gone, and the documents were made of them
    digest: str  # of what the files hold
    notes: list[str]  # what was left out of the sources

    @cached_property
    def settings(self) -> Settings:
        return {"data.sources": self.digest, **identity(self.recipe.data, "data")}

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {}

    def make(self) -> None:
        for note in self.notes:
            say(note)
        with self.publish() as folder:
            summary = self.write(self.files, folder)
        say(
            f"documents: {summary.train_documents:,} for training ({human(summary.train_bytes)}B), "
            f"{summary.validation_documents:,} for validation ({human(summary.validation_bytes)}B){summary.remarks}"
        )
        if summary.left_out:
            say(f"skipped: {summary.left_out}")

    def write(self, files: list[SourceFile], folder: Path) -> DocumentsSummary:
        """The documents in some files, as the recipe has them read, written into `folder`."""
        from gemmule.refine.documents import write_documents

        data, skip_bad = self.recipe.data, self.recipe.data.bad_records == "skip"
        return write_documents(files, data.field, data.validation_fraction, folder, skip_bad=skip_bad)

    @property
    def summary(self) -> dict[str, Any]:
        """Its counts, as `DocumentsSummary` names them."""
        summary: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return summary

    def openings(self) -> list[str]:
        """The opening words of two validation documents, as prompts."""
        from gemmule.refine.documents import read_split

        prompts = []
        for text in islice(read_split(self.path, "validation"), 2):
            words = text.strip()[:PROMPT_LENGTH].rsplit(maxsplit=1)
            prompts.append(words[0] if words else "")
        return prompts
