"""`gemmule evaluate MODEL [TEXT...]`: the figures of any model on any text, against another, and what it can do.

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
from gemmule.base.encodings import BadRecord
from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.evaluate import any_model, tasks
from gemmule.evaluate.any_model import LONGEST, AnyModel
from gemmule.evaluate.figures import Subject, measure
from gemmule.evaluate.passages import DocumentPassages
from gemmule.evaluate.tasks.records import read_records
from gemmule.evaluate.units import Units, ratio
from gemmule.refine import sources
from gemmule.refine.compressed import SUFFIXES
from gemmule.refine.source_file import SourceFile
from gemmule.teach.teachers.vocabulary import Restricted

OWN = ("perplexity", "perplexity_interval", "bits_per_byte", "bits_per_byte_interval", "accuracy", "ece", "entropy",
       "tokens", "documents", "units", "calibration", "by_position")  # fmt: skip
DIFFERENT = "kl, agreement, acceptance: the models have different tokenizers; their bits per byte are compared"
ANSWERS = f"{tasks.PREFIX}answers"  # whose TEXT are questions and answers
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
        """Raises RequestError for what is no text, naming file and line."""
        for file in self.files:
            try:
                for document in sources.read_documents(file, self.field):
                    yield document.text
            except BadRecord as error:  # in the words of a recipe
                raise RequestError(str(error).partition("\n")[0].replace("data.field", "--field")) from None

    @property
    def size(self) -> int:
        """Bytes, about."""
        sizes = ((file.path.stat().st_size, file.path.suffix in SUFFIXES) for file in self.files)
        return sum(size * (EXPANDED if compressed else 1) for size, compressed in sizes)


@dataclass(frozen=True)
class Request:
    """What is to be measured of a model."""

    source: str  # the model: a folder, hub id or GGUF file
    texts: Sequence[str] = ()  # files, folders or globs
    against: str | None = None  # another model
    tasks: Sequence[str] = ()
    include: Path | None = None  # a folder of lm-evaluation-harness tasks
    allow_code: bool = False  # that their files name
    context: int | None = None  # tokens of a window; None: what the models read, 8,192 at most
    stride: int | None = None  # tokens from one window to the next; None: they don't overlap
    field: str | None = None  # of records, with the text; None: "text", or none if they are questions and answers

    def context_of(self, *models: AnyModel) -> int:
        """Raises RequestError for one that a model can't read."""
        known = [model.context for model in models if model.context is not None]
        if self.context is None:
            return min([LONGEST, *known])
        for model in models:
            if model.context is not None and self.context > model.context:
                raise RequestError(f"--context {self.context}: {model.source} reads at most {model.context} tokens")
        return self.context


def evaluate(asked: Request) -> dict[str, Any]:
    """The figures of a model, beside another's if it is compared with one, and its tasks' numbers: strict JSON.

    Raises RequestError for what can't be measured, naming it, where possible before a model is loaded.
    """
    text, records, places = _check(asked)
    device = choose_device()
    model, *others = [any_model.load(source, place, device) for source, place in places]
    other = others[0] if others else None
    found: dict[str, Any] = {"model": asked.source}
    if text is not None:
        found |= _figures(model, other, text, asked)
    if asked.tasks:
        documents = tasks.some(text.documents()) if text is not None else []
        about = tasks.Asked(model.model, model.tokenizer, asked.context_of(model), documents, records=records)
        found["tasks"] = tasks.run(asked.tasks, about, asked.include, allow_code=asked.allow_code)
        refused = [task["not_measured"] for task in found["tasks"].values() if "not_measured" in task]
        if text is None and len(refused) == len(found["tasks"]):
            raise RequestError(refused[0])
    return found


def _check(asked: Request) -> tuple[Text | None, list[dict[str, str]], list[tuple[str, Path]]]:
    """The text, if there is one; the questions and answers in its files, if they are asked; where the models lie.

    Raises RequestError for what is wrong with the request, before anything is loaded.
    """
    if not asked.texts and not asked.tasks:
        raise RequestError("nothing to measure: name a text (files, folders, globs), or --tasks")
    for option, value in (("--include", asked.include), ("--allow-code", asked.allow_code)):
        if value and not asked.tasks:
            raise RequestError(f"{option}: goes with --tasks")
    for option, number in (("--context", asked.context), ("--stride", asked.stride)):
        if number is not None and number < 1:
            raise RequestError(f"{option} {number}: must be at least 1")
    text = Text.find(asked.texts, asked.field or "text") if asked.texts else None
    records: list[dict[str, str]] = []
    tasks.check(asked.tasks, asked.include, allow_code=asked.allow_code)
    named = [source for source in (asked.source, asked.against) if source is not None]
    places = [(source, any_model.find(source)) for source in named]
    if text is not None and ANSWERS in asked.tasks:
        records = [record for file in text.files for record in read_records(file.path)]
        text = text if asked.field is not None else None
    if text is None and asked.against is not None:
        raise RequestError("--against: two models are compared on a text: name one, of records with --field")
    return text, records, places


def _figures(model: AnyModel, other: AnyModel | None, text: Text, asked: Request) -> dict[str, Any]:
    if other is None:
        context = asked.context_of(model)
        figures = _measure([Subject(model.model)], [model], text, context, asked.stride)[0]
        return _own(figures) | {"context": context}
    context = asked.context_of(model, other)
    if context != asked.context_of(model):
        say(f"both are read in windows of {context} tokens, the most that {other.source} reads")
    same = model.tokenizer.content_hash == other.tokenizer.content_hash
    ours, theirs, figures, their_figures = _pair(model, other, text, context, asked.stride, same)
    compared = ratio(ours, theirs, same)
    assert compared is not None  # the same text
    if not same:
        say(f"not compared: {DIFFERENT}")
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
        **_own(their_figures),
    }
    return _own(figures) | {"context": context, "against": against}


def _pair(
    model: AnyModel, other: AnyModel, text: Text, context: int, stride: int | None, same: bool
) -> tuple[Units, Units, dict[str, Any], dict[str, Any]]:
    """What was found of both; of the first one beside the other, wherever their distributions can be compared."""
    if same and model.model.vocabulary_size == other.model.vocabulary_size:
        one, two = Subject(model.model, other.model), Subject(other.model)
        figures, their_figures = _measure([one, two], [model, other], text, context, stride)
        return one.units, two.units, figures, their_figures
    one, two = Subject(model.model), Subject(other.model)
    (figures,) = _measure([one], [model], text, context, stride)
    (their_figures,) = _measure([two], [other], text, context, stride)
    if same:  # but for rows of a table that stand for no token
        tokens = torch.arange(model.tokenizer.vocabulary_size)
        beside = Subject(Restricted(model.model, tokens), Restricted(other.model, tokens))
        (shared,) = _measure([beside], [model, other], text, context, stride)
        figures |= {name: shared[name] for name in ("kl_to_teacher", "agreement", "acceptance")}
    return one.units, two.units, figures, their_figures


def _measure(
    subjects: list[Subject], models: Sequence[AnyModel], text: Text, context: int, stride: int | None
) -> list[dict[str, Any]]:
    tokenizer = models[0].tokenizer
    passages = DocumentPassages(text.documents(), tokenizer, context, stride=stride, total=text.size)
    if passages.empty:
        raise RequestError(f"{', '.join(file.name for file in text.files)}: no text there but white space")
    return measure(subjects, passages, f"evaluating {' and '.join(model.source for model in models)}")


def _own(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in OWN}
