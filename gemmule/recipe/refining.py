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


NGrams = list[Annotated[tuple[Annotated[int, Field(ge=1, le=100)], Ratio], Field(strict=False)]]  # [words, share]
Amount = Annotated[int, Field(ge=0, le=10**9)]
Number = Annotated[float, Field(ge=0, le=1e9)]
Limit = Annotated[int, Field(ge=-1, le=10**9)]


class Gopher(Section):
    """Thresholds of `refine/steps/quality/gopher.py`; 0 turns a rule off."""

    min_doc_words: Amount = 50
    max_doc_words: Amount = 100_000
    min_avg_word_length: Number = 3
    max_avg_word_length: Number = 10
    max_symbol_word_ratio: Number = 0.1
    max_bullet_lines_ratio: Ratio = 0.9
    max_ellipsis_lines_ratio: Ratio = 0.3
    max_non_alpha_words_ratio: Ratio = 0.8  # datatrove's name; the least share of words that have a letter
    min_stop_words: Amount = 2
    stop_words: list[str] = ["the", "be", "to", "of", "and", "that", "have", "with"]


class Repetition(Section):
    """Thresholds of `refine/steps/quality/repetition.py`, shares of the text; 0 turns a rule off."""

    dup_line_frac: Ratio = 0.3
    dup_para_frac: Ratio = 0.3
    dup_line_char_frac: Ratio = 0.2
    dup_para_char_frac: Ratio = 0.2
    top_n_grams: NGrams = [(2, 0.2), (3, 0.18), (4, 0.16)]
    dup_n_grams: NGrams = [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)]


class C4(Section):
    """Thresholds of `refine/steps/quality/c4.py`; -1 turns a rule off."""

    remove_citations: bool = True
    filter_no_terminal_punct: bool = False
    min_num_sentences: Limit = 5
    min_words_per_line: Limit = 3
    max_word_length: Limit = 1000
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True


class FineWeb(Section):
    """Thresholds of `refine/steps/quality/fineweb.py`."""

    line_punct_thr: Ratio = 0.12
    line_punct_exclude_zero: bool = False
    short_line_thr: Ratio = 0.67
    short_line_length: Amount = 30
    char_duplicates_ratio: Ratio = 0.01
    new_line_ratio: Number = 0.3


class Boilerplate(Section):
    """Which lines are so many documents' that they are nobody's: `refine/steps/boilerplate.py`."""

    min_documents: Annotated[int, Field(ge=2, le=10**9)] = 8
    min_share: Ratio = 0.0001  # of all documents
    min_length: Amount = 30  # bytes
    min_words: Amount = 5


class Quality(Section):
    """Rules by which text that is not prose is dropped; thresholds have datatrove's names and defaults."""

    gopher: bool | Gopher = True
    repetition: bool | Repetition = True
    c4: bool | C4 = True
    fineweb: bool | FineWeb = True
    # which text is spared rules that can't judge it: "other", source code and other languages than English; "all",
    # verse, plays and short texts too; "none", all is judged as an English web page
    allowances: Literal["none", "other", "all"] = "other"
    boilerplate: bool | Boilerplate = True


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
    # true: the rules as they are; "careful": spares verse, plays and short texts those that can't judge them
    quality: bool | Literal["careful"] | Quality = "careful"
    duplicates: bool | Duplicates = True
    minus: Annotated[list[Place], RESOLVED] = []  # files, folders, globs: what these have is left out
    decontaminate: Annotated[list[Place], RESOLVED] = []  # evaluation sets: what shares 13 words in a row is dropped
    keep: Annotated[Place | None, RESOLVED] = None  # "module:function", asked of each document; needs --allow-code
    teacher_score: Annotated[TeacherScore | None, omitted_at(None)] = None
