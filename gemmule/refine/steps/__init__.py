"""The steps of the refinery, one file each, in the order in which documents go through them.

repair -> languages -> personal data -> quality -> boilerplate -> exact duplicates -> near duplicates -> substrings
       -> minus -> decontaminate -> keep
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.recipe import Duplicates, Quality, Refine
from gemmule.recipe.refining import Boilerplate as BoilerplateSettings
from gemmule.recipe.section import section_of
from gemmule.refine.source_file import SourceFile

if TYPE_CHECKING:
    from gemmule.refine.steps.step import DocumentStep, Step


@dataclass(frozen=True)
class Outside:
    """What the steps need beside their settings."""

    base: Path  # the recipe's folder
    field: str = "text"  # of records, that holds the text
    skip_bad: bool = False  # whether what can't be read is left out
    minus: Sequence[SourceFile] = ()
    decontaminate: Sequence[SourceFile] = ()


def in_order(refine: Refine, outside: Outside) -> list[Step]:
    """The steps that a recipe's section asks for."""
    from gemmule.refine.steps.boilerplate import Boilerplate
    from gemmule.refine.steps.decontaminate import Decontaminate
    from gemmule.refine.steps.exact_duplicates import ExactDuplicates
    from gemmule.refine.steps.keep import Keep
    from gemmule.refine.steps.languages import Languages
    from gemmule.refine.steps.minus import Minus
    from gemmule.refine.steps.near_duplicates import NearDuplicates
    from gemmule.refine.steps.personal_data import PersonalData
    from gemmule.refine.steps.quality import QualityRules
    from gemmule.refine.steps.repair import Repair
    from gemmule.refine.steps.substrings import Substrings

    duplicates = section_of(refine.duplicates, Duplicates)
    quality = Quality(allowances="all") if refine.quality == "careful" else section_of(refine.quality, Quality)
    steps: list[Step] = []
    wanted = None if refine.languages is None else tuple(refine.languages)
    alike: list[DocumentStep] = [Repair()] if refine.repair else []
    alike.append(Languages(wanted, refine.language_threshold))
    if refine.personal_data != "keep":
        alike.append(PersonalData(refine.personal_data))
    steps += alike
    if quality is not None:
        steps.append(QualityRules(quality))
        if boilerplate := section_of(quality.boilerplate, BoilerplateSettings):
            steps.append(Boilerplate(boilerplate))
    if duplicates is not None and duplicates.exact:
        steps.append(ExactDuplicates())
    if duplicates is not None and duplicates.near:
        steps.append(NearDuplicates(duplicates.near))
    if duplicates is not None and duplicates.substrings:
        steps.append(Substrings(duplicates.substrings))
    if outside.minus:
        near = duplicates.near if duplicates is not None and duplicates.near else 0.8
        steps.append(
            Minus(
                outside.minus,
                outside.field,
                near,
                alike,
                skip_bad=outside.skip_bad,
                invalid="replace" if refine.repair == "replace" else "refuse",
            )
        )
    if outside.decontaminate:
        steps.append(Decontaminate(outside.decontaminate))
    if refine.keep is not None:
        steps.append(Keep(refine.keep, outside.base))
    return steps
