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
DIFFERENT = "kl, agreement, acceptance: the models have different tokenizers; their bits per byte are compared"
EXPANDED = 4  # times, about, that a compressed text is larger than its file


@dataclass(frozen=True)
class Text:
    """Documents in files, which can be read again."""

    files: Sequence[SourceFile]
    field: str = "text"

    @classmethod
    def find(cls, patterns: Sequence[str], field: str = "text") -> Text:
        """Raises RequestError for what is not there, is empty, or is of no known format."""
        files = sources.resolve(patterns, Path.cwd(), skip_empty=True, tell=say)
        for file in files:
            if file.path.stat().st_size == 0:
                raise RequestError(f"{file.name}: an empty file (0 bytes): there is nothing to evaluate on")
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
        context = reading.context_of(model)
        figures = _measure([Subject(model.model)], [model], text, context, reading)[0]
        return _own(model, figures) | {"context": context}
    context = reading.context_of(model, other)
    if context != reading.context_of(model):
        say(f"both are read in windows of {context} tokens, the most that {other.source} reads")
    same = model.tokenizer.content_hash == other.tokenizer.content_hash
    ours, theirs, figures, their_figures = _pair(model, other, text, context, reading, same)
    compared = ratio(ours, theirs, same)
    assert compared is not None  # the same text
    against = {
        "model": other.source,
        "ratio": compared.value,
        "ratio_of": compared.of,
        "ratio_interval": compared.interval,
        "p_value": compared.p_value,
        "kl": figures["kl_to_teacher"],
        "agreement": figures["agreement"],
        "acceptance": figures["acceptance"],
        "not_compared": None if same else DIFFERENT,
        **{name: their_figures[name] for name in OWN},
    }
    return _own(model, figures) | {"context": context, "against": against}


def _pair(
    model: AnyModel, other: AnyModel, text: Text, context: int, reading: Reading, same: bool
) -> tuple[Units, Units, dict[str, Any], dict[str, Any]]:
    """What was found of both; of the first one beside the other, wherever their distributions can be compared."""
    if same and model.model.vocabulary_size == other.model.vocabulary_size:
        one, two = Subject(model.model, other.model), Subject(other.model)
        figures, their_figures = _measure([one, two], [model, other], text, context, reading)
        return one.units, two.units, figures, their_figures
    one, two = Subject(model.model), Subject(other.model)
    (figures,) = _measure([one], [model], text, context, reading)
    (their_figures,) = _measure([two], [other], text, context, reading)
    if same:  # but for rows of a table that stand for no token
        tokens = torch.arange(model.tokenizer.vocabulary_size)
        beside = Subject(Restricted(model.model, tokens), Restricted(other.model, tokens))
        (shared,) = _measure([beside], [model, other], text, context, reading)
        figures |= {name: shared[name] for name in ("kl_to_teacher", "agreement", "acceptance")}
    return one.units, two.units, figures, their_figures


def _measure(
    subjects: list[Subject], models: Sequence[AnyModel], text: Text, context: int, reading: Reading
) -> list[dict[str, Any]]:
    tokenizer = models[0].tokenizer
    passages = DocumentPassages(text.documents(), tokenizer, context, stride=reading.stride, total=text.size)
    if passages.empty:
        raise RequestError(f"{', '.join(file.name for file in text.files)}: no text there but white space")
    return measure(subjects, passages, f"evaluating {' and '.join(model.source for model in models)}")


def _own(model: AnyModel, figures: dict[str, Any]) -> dict[str, Any]:
    return {"model": model.source, **{name: figures[name] for name in OWN}}
