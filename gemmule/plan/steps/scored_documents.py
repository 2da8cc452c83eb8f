"""The recipe's documents where some are dropped by what a model makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmule.base.progress import say
from gemmule.evaluate.scores import Verdicts
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.recipe import TeacherScore

if TYPE_CHECKING:
    from gemmule.refine.documents import DocumentsSummary
    from gemmule.refine.explaining import Opinion
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

    def check_code(self) -> None:
        """The user's function is run for the candidates, or was."""

    def dry_run(self) -> dict[str, Any]:
        say(f"{STEP} is left out: {self.how.model} would have to read all documents")
        return self.scores.candidates.dry_run()

    def explain(self, wanted: str) -> Iterator[tuple[str, list[Opinion]]]:
        """As the other steps have it, and then what the model made of a document, if it has read it."""
        from gemmule.refine.explaining import Opinion

        verdicts = self.verdicts if self.is_made else None
        numbers = self._numbers() if verdicts is not None else {}
        for place, opinions in self.scores.candidates.explain(wanted):
            waiting = numbers.get(place, [])
            if any(opinion.outcome == "dropped" for opinion in opinions) or verdicts is None or not waiting:
                yield place, [*opinions, Opinion(STEP, "not reached")]
                continue
            number = waiting.pop(0)  # the parts of a long record have one place
            reason = verdicts.reason(number)
            opinion = Opinion(STEP, "dropped" if reason else "kept", reason, verdicts.figures(number))
            yield place, [*opinions, opinion]

    def _numbers(self) -> dict[str, list[int]]:
        """Of the candidates, by their places."""
        from gemmule.refine.judged import read_places

        numbers: dict[str, list[int]] = {}
        for number, place in enumerate(read_places(self.scores.candidates.path)):
            numbers.setdefault(place, []).append(number)
        return numbers

    def fill(self, folder: Path) -> DocumentsSummary:
        from gemmule.refine.documents import write_documents
        from gemmule.refine.judged import Judged, read_tally

        verdicts, candidates = self.verdicts, self.scores.candidates.path
        left = Judged(candidates, verdicts.reason)
        assert self.refining is not None
        left.write_record(STEP, verdicts.facts(), self.refining.mask, folder, self.settings)

        def documents(counted: Tally) -> Iterable[Document]:
            counted.__dict__.update(read_tally(candidates).__dict__)
            return left

        return write_documents(self.reading(self.files), self.recipe.data.validation_fraction, folder, documents)
