"""`gemmule evaluate MODEL TEXT...`: the figures of any model on any text, and how it compares with another.

Each document is read by itself, in windows as long as the model's context. Two models are compared on the same
documents: by their perplexities where they have the same tokens, else by their bits per byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gemmule.base.device import choose_device
from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.evaluate import any_model
from gemmule.evaluate.any_model import LONGEST, AnyModel
from gemmule.evaluate.figures import Subject, measure
from gemmule.evaluate.passages import DocumentPassages
from gemmule.evaluate.units import Units, ratio
from gemmule.refine import sources
from gemmule.refine.compressed import SUFFIXES
from gemmule.refine.source_file import SourceFile
from gemmule.teach.teachers.vocabulary import Restricted

OWN = ("perplexity", "perplexity_interval", "bits_per_byte", "bits_per_byte_interval", "accuracy", "ece", "entropy",
       "tokens", "documents", "units", "calibration", "by_position")  # fmt: skip
EXPANDED = 4  # times, about, that a compressed text is larger than its file


@dataclass(frozen=True)
class Text:
    """Documents in files, which can be read again."""

    files: Sequence[SourceFile]
    field: str = "text"

    @classmethod
    def find(cls, patterns: Sequence[str], field: str = "text") -> Text:
        """Raises RequestError for what is not there, is empty, or is of no known format."""
        files = sources.resolve(patterns, Path.cwd(), tell=say)
        if not files:
            raise RequestError(f"{', '.join(patterns)}: no files of text there")
        return cls(files, field)

    def documents(self) -> Iterator[str]:
        for file in self.files:
            for document in sources.read_documents(file, self.field):
                yield document.text

    @property
    def size(self) -> int:
        """Bytes, about."""
        sizes = ((file.path.stat().st_size, file.path.suffix in SUFFIXES) for file in self.files)
        return sum(size * (EXPANDED if compressed else 1) for size, compressed in sizes)


@dataclass(frozen=True)
class Reading:
    """How documents are read."""

    context: int | None = None  # tokens of a window; None: what the models read, 8,192 at most
    stride: int | None = None  # tokens from one window to the next; None: they don't overlap

    def context_of(self, *models: AnyModel) -> int:
        """Raises RequestError for one that a model can't read."""
        known = [model.context for model in models if model.context is not None]
        if self.context is None:
            return min([LONGEST, *known])
        for model in models:
            if model.context is not None and self.context > model.context:
                raise RequestError(f"--context {self.context}: {model.source} reads at most {model.context} tokens")
        return self.context


def evaluate(source: str, text: Text, against: str | None = None, reading: Reading | None = None) -> dict[str, Any]:
    """The figures of a model, and, where it is compared with another, of both: strict JSON.

    Raises RequestError for what can't be measured, naming it, where possible before a model is loaded.
    """
    reading = reading or Reading()
    for named in (source, against):
        if named is not None:
            any_model.find(named)
    device = choose_device()
    model = any_model.load(source, device)
    other = any_model.load(against, device) if against is not None else None
    return measured(model, text, other, reading)


def measured(model: AnyModel, text: Text, other: AnyModel | None, reading: Reading) -> dict[str, Any]:
    """`evaluate` of models that are loaded."""
    if other is None:
        subject = Subject(model.model)
        figures = _measure([subject], [model], text, reading.context_of(model), reading)[0]
        return _own(model, figures) | {"context": reading.context_of(model)}
    context = reading.context_of(model, other)
    if context != reading.context_of(model):
        say(f"both are read in windows of {context} tokens, the most that {other.source} reads")
    same = model.tokenizer.content_hash == other.tokenizer.content_hash
    one, two = _pair(model, other, text, context, reading, same)
    assert one.units is not None and two.units is not None
    ours, theirs = one.found, two.found
    return _own(model, ours) | {"context": context, "against": _against(other, ours, theirs, one.units, two.units, same)}


@dataclass(eq=False)
class _Measured:
    found: dict[str, Any]
    units: Units | None


def _pair(
    model: AnyModel, other: AnyModel, text: Text, context: int, reading: Reading, same: bool
) -> tuple[_Measured, _Measured]:
    """Both models' figures, the first one's beside the other wherever their distributions can be compared."""
    if same and model.model.vocabulary_size == other.model.vocabulary_size:
        subjects = [Subject(model.model, other.model), Subject(other.model)]
        found = _measure(subjects, [model, other], text, context, reading)
        return _Measured(found[0], subjects[0].units), _Measured(found[1], subjects[1].units)
    measured = []
    for each in (model, other):
        subject = Subject(each.model)
        found = _measure([subject], [each], text, context, reading)
        measured.append(_Measured(found[0], subject.units))
    if same:  # but for rows of the table that stand for no token
        shared = [_with_rows(each, model.tokenizer.vocabulary_size) for each in (model, other)]
        beside = _measure([Subject(*shared)], [model, other], text, context, reading)[0]
        measured[0].found |= {name: beside[name] for name in ("kl_to_teacher", "agreement", "acceptance")}
    return measured[0], measured[1]


def _with_rows(model: AnyModel, rows: int) -> Restricted:
    return Restricted(model.model, torch.arange(rows))


def _measure(
    subjects: list[Subject], models: Sequence[AnyModel], text: Text, context: int, reading: Reading
) -> list[dict[str, Any]]:
    passages = DocumentPassages(
        text.documents(), models[0].tokenizer, context, stride=reading.stride, total=text.size
    )
    return measure(subjects, passages, f"evaluating {' and '.join(model.source for model in models)}")


def _own(model: AnyModel, figures: dict[str, Any]) -> dict[str, Any]:
    return {"model": model.source, **{name: figures[name] for name in OWN}}


def _against(
    other: AnyModel, ours: dict[str, Any], theirs: dict[str, Any], units: Units, their_units: Units, same: bool
) -> dict[str, Any]:
    compared = ratio(units, their_units, same)
    assert compared is not None  # the same text
    found = {
        "model": other.source,
        "ratio": compared.value,
        "ratio_of": compared.of,
        "ratio_interval": compared.interval,
        "p_value": compared.p_value,
        "kl": ours["kl_to_teacher"],
        "agreement": ours["agreement"],
        "acceptance": ours["acceptance"],
        **{name: theirs[name] for name in OWN},
    }
    if not same:
        found["not_compared"] = (
            "kl, agreement and acceptance: the two have different tokenizers, so their distributions are over different "
            "tokens; their bits per byte are compared"
        )
    return found
