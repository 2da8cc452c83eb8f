"""The recipe's documents where some are dropped by what a model makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.evaluate.scores import Verdicts
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.recipe import TeacherScore

if TYPE_CHECKING:
    from gemmule.refine.documents import DocumentsSummary
    from gemmule.refine.sources import Document, Tally

STEP = "teacher_score"  # in the record


@dataclass(eq=False, kw_only=True)
class ScoredDocumentsStep(DocumentsStep):
    scores: ScoresStep

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"candidates": self.scores.candidates, "scores": self.scores}

    @property
    def how(self) -> TeacherScore:
        assert self.recipe.refine is not None
        assert self.recipe.refine.teacher_score is not None
        return self.recipe.refine.teacher_score

    @property
    def verdicts(self) -> Verdicts:
        """What becomes of each candidate."""
        return Verdicts(self.how.model, self.scores.scores, self.how.drop_easiest, self.how.drop_noisiest)

    def tell(self) -> None:
        """What there is to say of the sources was said of the candidates."""

    def fill(self, folder: Path) -> DocumentsSummary:
        from gemmule.refine.documents import write_documents
        from gemmule.refine.judged import Judged, read_tally

        verdicts, candidates = self.verdicts, self.scores.candidates.path
        left = Judged(candidates, verdicts.reason)
        assert self.refining is not None
        left.write_record(STEP, verdicts.facts(), self.refining.mask, folder)

        def documents(counted: Tally) -> Iterable[Document]:
            counted.__dict__.update(read_tally(candidates).__dict__)
            return left

        return write_documents(self.reading(self.files), self.recipe.data.validation_fraction, folder, documents)
