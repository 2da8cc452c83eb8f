"""[refine] of a recipe, put to work: its steps, where they find what they need, and what they make of a text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.base.processes import Workers
from gemmule.recipe import Refine
from gemmule.refine.steps import Outside, in_order
from gemmule.refine.steps.extras import check_installed
from gemmule.refine.steps.languages import check_languages

if TYPE_CHECKING:
    from gemmule.refine.documents import Reading
    from gemmule.refine.passes import Mask
    from gemmule.refine.refinery import Refined
    from gemmule.refine.sources import Tally
    from gemmule.refine.steps.step import Step

WORTH_A_PROCESS = 2**21  # bytes of text
EXPANDED = 3  # times, about, that a compressed text is larger than its file


@dataclass(frozen=True)
class Refining:
    """What a recipe asks for."""

    how: Refine
    outside: Outside

    def check(self) -> None:
        """Raises RequestError for a language that can't be told, and where a package that the steps need is missing."""
        check_languages(self.how.languages or ())
        needs = {
            "repair": ["ftfy"] if self.how.repair else [],
            "languages": ["py3langid"],
            "personal_data": ["phonenumbers", "stdnum"] if self.how.personal_data != "keep" else [],
        }
        for step, packages in needs.items():
            check_installed(step, *packages)

    @property
    def without_code(self) -> Refining:
        """But for a function of the user's."""
        return replace(self, how=self.how.model_copy(update={"keep": None}))

    def steps(self) -> list[Step]:
        return in_order(self.how, self.outside)

    @property
    def mask(self) -> Mask:
        """Hides personal data, in samples too of what was dropped before it was looked for."""
        if self.how.personal_data == "keep":
            return as_it_is
        from gemmule.refine.steps.personal_data import masked

        return masked

    def run(self, reading: Reading, folder: Path, workers: Workers) -> tuple[Refined, Tally]:
        """Takes what is read through the steps; `folder` is that of work in progress. Raises what `refine` raises."""
        from gemmule.refine.refinery import refine
        from gemmule.refine.sources import Tally

        tally = Tally()
        documents = reading.documents(tally, extract=False, title="refining text")
        refined = refine(documents, self.steps(), folder, workers, self.mask)
        return refined, replace(tally, cut=tally.cut + refined.pages["cut"], empty=tally.empty + refined.pages["empty"])


def as_it_is(text: str, language: str) -> str:
    return text


def processes_for(reading: Reading, most: int) -> int:
    """How many processes are worth their start for a text."""
    size = sum(file.path.stat().st_size * (EXPANDED if file.is_compressed else 1) for file in reading.files)
    return max(1, min(most, size // WORTH_A_PROCESS))
