"""The section [refine]: which steps raw text goes through before it is learned from, and how each is tuned.

`true` is a step with its defaults, `false` leaves it out, a table tunes it. Without the section text is taken as it
stands.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gemmule.recipe.identity import RESOLVED, omitted_at
from gemmule.recipe.section import Section
from gemmule.recipe.values import Place

Ratio = Annotated[float, Field(ge=0, le=1)]


class Quality(Section):
    """Rules by which text that is not prose is dropped; each set has its thresholds in its own step."""

    gopher: bool = True
    repetition: bool = True
    c4: bool = True
    fineweb: bool = True
    boilerplate: bool = True


class Duplicates(Section):
    """Which copies are left out; the first one stays."""

    exact: bool = True
    near: Annotated[float, Field(gt=0, lt=1)] | Literal[False] = 0.8  # from this true Jaccard of 5-word shingles on
    substrings: Annotated[int, Field(ge=10, le=10**4)] | Literal[False] = False  # passages of so many words or more


class TeacherScore(Section):
    """What is dropped by how well a model from outside predicts it."""

    model: str  # one of the recipe's, with `from`
    drop_noisiest: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of the documents
    drop_easiest: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _something_stays(self) -> TeacherScore:
        if (both := self.drop_noisiest + self.drop_easiest) >= 1:
            raise ValueError(f"drop_noisiest and drop_easiest sum to {both:g}: less than 1 leaves something")
        return self


class Refine(Section):
    """From raw text to documents worth learning from."""

    # mojibake, NFC, line ends, control characters, byte-order marks; "replace": invalid bytes become U+FFFD
    repair: bool | Literal["replace"] = True
    languages: Annotated[list[Annotated[str, Field(min_length=2, max_length=8)]] | None, omitted_at(None)] = None
    language_threshold: Ratio = 0.5  # a document is of a language from this probability on; of less certain ones none
    personal_data: Literal["mask", "drop", "keep"] = "mask"
    quality: bool | Quality = True
    duplicates: bool | Duplicates = True
    minus: Annotated[list[Place], RESOLVED] = []  # files, folders, globs: what these have is left out
    decontaminate: Annotated[list[Place], RESOLVED] = []  # evaluation sets: what shares 13 words in a row is dropped
    keep: Annotated[Place | None, RESOLVED] = None  # "module:function", asked of each document; needs --allow-code
    teacher_score: Annotated[TeacherScore | None, omitted_at(None)] = None
