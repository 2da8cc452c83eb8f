"""A recipe for a text: looked at, sized, estimated on this machine, sized again if that was off, and written."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gemmule.base import addresses
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import say_once
from gemmule.base.units import count, plain
from gemmule.base.units import size as as_bytes
from gemmule.convert.tokenizers import read_tokenizer
from gemmule.estimate import advice
from gemmule.estimate.fits import training
from gemmule.estimate.machine import SPARE, free_memory
from gemmule.estimate.shapes import shapes as of_plan
from gemmule.estimate.whole import Estimate, estimate
from gemmule.init.inspect_text import Found, look
from gemmule.init.sizes import VOCABULARIES, Means, Sizes, fit, shapes, stores_targets
from gemmule.init.telling import decisions
from gemmule.init.writing import OutsideTeacher, header, write
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import ModelStep
from gemmule.refine.files import as_text
from gemmule.refine.sources import is_bundled
from gemmule.teach.teachers import kinds
from gemmule.tokenize.training import VocabularyTooLarge

MINUTES = 12.0  # of a run on this machine
SPEED = 0.45  # of a large matmul's, of a whole run: at first; then what was measured
TRIES = 3
LARGE = 2**15  # tokens of a vocabulary that is pruned
BYTES_PER_TOKEN = 3.0  # of English at a vocabulary of 2,048: at first
SMALL_TEXT = 2 * 10**6  # bytes: of less, more is held out, or there is too little to measure on


@dataclass(frozen=True)
class Fitted:
    """A recipe, not written yet, what it will take, and what was decided, in lines for a person."""

    text: str
    estimate: Estimate
    decisions: list[str]


def fit_recipe(
    texts: Sequence[str],
    file: Path,
    teacher: str | None = None,
    size: int | None = None,
    minutes: float = MINUTES,
    field: str | None = None,
) -> Fitted:
    """A recipe for `texts`, to be written to `file`: sources in it are relative to that.

    `size` is the student's parameters, `field` the one that holds the text of records; else both are found out.

    Raises RequestError for text that can't be read or is too little, for a teacher that can't teach here, and for a
    size that this machine has no memory for.
    """
    if size is not None:
        check_size(size)
    if teacher is not None:
        addresses.refuse_secrets(teacher, "--teacher")
        if (kind := kinds.kind_of(teacher)) is not None:
            kind.identify(teacher, "--teacher")
    base = file.absolute().parent
    sources = [_relative(text, base) for text in texts]
    found = look(sources, base, field)
    outsider, vocabulary_size = _teacher(teacher, base, found) if teacher is not None else (None, None)
    from gemmule.base.device import choose_device
    from gemmule.estimate.measuring import product_rate  # imports torch

    shape = None if teacher is None else kinds.shape_of(_source(teacher), 256, vocabulary_size)
    means = Means(
        text_bytes=found.bytes,
        bytes_per_token=BYTES_PER_TOKEN,
        flops=SPEED * product_rate(choose_device("auto")) * minutes * 60,
        vocabulary_size=vocabulary_size,
        teacher_flops=None if outsider is None else (shape.flops_per_token if shape is not None else 0.0),
        longest=outsider.longest if outsider is not None else None,
    )
    name = _name(texts[0])
    fraction = 0.1 if found.bytes < SMALL_TEXT else 0.05
    sizes: Sizes | None = None
    known: Estimate | None = None
    fingerprints: dict[str, Any] = {}
    for _ in range(TRIES + 1):  # one may find that the text has too few words
        before, sizes = sizes, fit(means, size)
        if sizes == before:
            break
        if outsider is not None:
            outsider = replace(outsider, targets=stores_targets(means, sizes))
        text = write(name, sources, found, sizes, outsider, fraction)
        plan = Plan(tomllib.loads(text), file, Path("runs") / name, fingerprints)
        fingerprints = plan.origins.fingerprints
        if size is not None:
            _check_memory(size, plan, sizes.vocabulary_size)
        say_once(f"trying a student of {sizes.student.layers} layers of width {sizes.student.width} on this machine")
        try:
            known = estimate(plan)
        except VocabularyTooLarge as error:
            means = replace(means, largest_vocabulary=error.largest)
            continue
        means = _learned(means, sizes, known, minutes)
    assert known is not None
    assert sizes is not None
    remarks = _remarks(sizes, known, minutes, plan)
    text = write(name, sources, found, sizes, outsider, fraction, header(str(file), found, known, remarks))
    return Fitted(text, known, decisions(sources, found, sizes, outsider, known, remarks))


def check_size(size: int) -> None:
    """Raises RequestError for a student that is not among the shapes."""
    smallest, *_, largest = shapes()
    low, high = smallest.weights, largest.weights + largest.width * VOCABULARIES[-1]
    if not low / 2 <= size <= high:
        raise RequestError(
            f"--size {plain(count(size))}: init makes students of {plain(count(low))} to {plain(count(high))} "
            "parameters; larger ones are written by hand: docs/recipe.md"
        )


def _check_memory(size: int, plan: Plan, vocabulary_size: int) -> None:
    """Before anything is measured: whether each model's training fits into this machine. Raises RequestError."""
    free = SPARE * free_memory()
    known = of_plan(plan, vocabulary_size)
    for step in plan.of(ModelStep):
        shape, held = known[step.name], training(step, known)
        if shape is not None and held is not None and held.total > free:
            fits = count(float(f"{size * free / held.total:.1g}"))
            raise RequestError(
                plain(
                    f"--size {count(size)}: training {step.name}, of {count(shape.parameters)} parameters, takes "
                    f"{as_bytes(held.total)} of memory, and {as_bytes(free)} are available here: "
                    f"about --size {fits} fits"
                )
            )


def _learned(means: Means, sizes: Sizes, known: Estimate, minutes: float) -> Means:
    """With what was found out: the text's real tokens, and this machine's speed at this work."""
    of_2048 = 1.0 if means.vocabulary_size else (sizes.vocabulary_size / 2048) ** 0.2
    return replace(
        means,
        bytes_per_token=known.text.bytes_per_token / of_2048,
        vocabulary_size=known.text.vocabulary_size if means.vocabulary_size else None,
        flops=known.flops / known.seconds * minutes * 60,
        train_share=known.text.train_bytes / means.text_bytes,
    )


def _remarks(sizes: Sizes, known: Estimate, minutes: float, plan: Plan) -> list[str]:
    """Why it is as it is, and what would be better."""
    lines = []
    if sizes.limited_by == "text":
        lines.append("Limited by the text: larger models would overfit. More text helps most.")
    elif sizes.limited_by == "time" and known.seconds < 1.5 * 60 * minutes:
        lines.append(f"Limited by the time: gemmule init --minutes {minutes * 10:g} makes larger, better models.")
    if sizes.limited_by == "size" and sizes.student.tokens < 5 * sizes.student.weights:
        lines.append("A student of this size wants 20 tokens per parameter or more; this is what time and text allow.")
    for warning in advice.warnings(plan, known):
        lines += _wrapped(warning)
    return lines


def _wrapped(text: str, width: int = 110) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _teacher(origin: str, base: Path, found: Found) -> tuple[OutsideTeacher, int]:
    """A teacher from outside as the recipe names it, and about how many tokens its students have."""
    source = _source(origin)
    kind, is_here = kinds.kind_of(source), isinstance(source, Path)
    if kind is None and not is_here and origin.count("/") != 1:
        raise RequestError(f"--teacher {origin}: no such folder or file, and no hub id (owner/name) or address either")
    known = kind.facts(source) if kind is not None else kinds.Facts(source)
    try:
        vocabulary = read_tokenizer(known.tokenizer).vocabulary_size
    except (RequestError, WorkError) as error:
        if known.model is None:
            raise
        raise RequestError(
            f"--teacher {origin}: it serves {known.model!r}, whose tokenizer could not be loaded: {error}"
        ) from None
    prune = vocabulary > LARGE and known.top_k is None
    kept = min(vocabulary, round(8 * found.bytes**0.5)) if prune else vocabulary
    named = _relative(origin, base) if is_here else origin
    return OutsideTeacher(named, known.model or "teacher", prune, known.top_k, known.longest), kept


def _source(teacher: str) -> kinds.Source:
    """A folder or file that is here; else an address or hub id."""
    place = Path(teacher).expanduser()
    return place if kinds.kind_of(teacher) is None and place.exists() else teacher


def _relative(text: str, base: Path) -> str:
    """A path as seen from the recipe's folder, if it lies in it or beside it."""
    if is_bundled(text):
        return text
    path = Path(text).expanduser().absolute()
    near = os.path.relpath(path, base)
    return as_text(str(path) if near.startswith("../..") else near)


def _name(text: str) -> str:
    """What the run is called: as the first text is."""
    stem = text.removeprefix("gemmule:").rstrip("/*.")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(stem).name.split(".")[0]).strip("-_")
    return name[:60] or "text"


def write_file(file: Path, text: str) -> None:
    """Raises RequestError if there is a file, WorkError if it can't be written; nothing half-written is left."""
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise RequestError(f"{file}: exists already and is not overwritten: choose another --out") from None
    except OSError as error:
        raise RequestError(f"{file}: can't be written: {error.strerror}") from None


def check_free(file: Path) -> None:
    """Before any work: whether a recipe can be written there. Raises RequestError."""
    if os.path.lexists(file):
        raise RequestError(f"{file}: exists already and is not overwritten: choose another --out")
    if not file.absolute().parent.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise RequestError(f"{file}: can't be written: {file.absolute().parent} is not a folder that you can write to")
