"""The documents that a model is to score: all that [refine] leaves but for what goes by the scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from gemmule.base.artifact import Settings
from gemmule.base.progress import human, say
from gemmule.plan.steps.documents import DocumentsStep

LATER = ("data.validation_fraction", "refine.teacher_score.")  # as keys begin: what is done once there are scores


@dataclass(eq=False, kw_only=True)
class CandidatesStep(DocumentsStep):
    """Read as documents are, but not split; sources have no weights here."""

    kind: ClassVar[str] = "candidates"
    verb: ClassVar[str] = ""

    @cached_property
    def settings(self) -> Settings:
        return {key: value for key, value in super().settings.items() if not key.startswith(LATER)}

    def make(self) -> None:
        from gemmule.refine.judged import write_candidates

        self.check_code()
        self.check_code()
        self.tell()
        with self.refined(self.reading(self.files), self.work) as (refined, tally), self.publish() as folder:
            refined.write(folder, self.settings)
            write_candidates(refined.corpus, tally, folder)
            documents = len(refined.corpus)
        shutil.rmtree(self.work, ignore_errors=True)
        say(f"candidates: {documents:,} documents ({human(self.bytes)}B) to be scored")

    @property
    def bytes(self) -> int:
        """Of their text."""
        from gemmule.refine.judged import read_bytes

        return read_bytes(self.path)

    def texts(self) -> Iterator[str]:
        from gemmule.refine.judged import read_candidates

        return (document.text for document in read_candidates(self.path))
