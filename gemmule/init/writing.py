"""The recipe that `gemmule init` writes: TOML that a person reads, each choice with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gemmule.base.errors import shown
from gemmule.base.units import count, duration, plain, size
from gemmule.estimate.whole import Estimate
from gemmule.init.inspect_text import Found
from gemmule.init.sizes import Sized, Sizes
from gemmule.recipe.defaults import default_learning_rate, default_optimizer
from gemmule.recipe.schema import BYTES_PER_TOKEN, batch_for

COLUMN = 41  # where comments begin


@dataclass(frozen=True)
class OutsideTeacher:
    """A teacher that is not trained here, as a recipe names it."""

    origin: str  # a folder, hub id, GGUF file or address
    tokenizer: str  # what tokenizer.from says
    prune: bool
    top_k: int | None = None  # of a server
    longest: int | None = None  # window that it can read
    targets: bool = False  # whether its answers are stored


def write(
    name: str,
    sources: Sequence[str],
    found: Found,
    sizes: Sizes,
    teacher: OutsideTeacher | None,
    validation_fraction: float,
    header: Sequence[str] = (),
) -> str:
    """The recipe. `header` are lines for its beginning."""
    lines = [*(f"# {line}".rstrip() for line in header), ""] if header else []
    lines += [f"name = {_text(name)}", "seed = 0", "", *_data(sources, found, sizes, validation_fraction), ""]
    lines += [*_refine(found), ""] if found.refine else []
    lines += [*_tokenizer(sizes, teacher), "", *_teacher(sizes, teacher), ""]
    lines += [*_student(sizes, teacher), ""]
    lines += [_line("[models.control]", "the same student, same initial weights, same batches, without a teacher"),
              'like = "student"', 'learn_from = "none"']  # fmt: skip
    return plain("\n".join(lines) + "\n")


def _share(epochs: float) -> str:
    return f"the text {epochs:.1f} times" if epochs >= 0.95 else f"{max(0.01, epochs):.0%} of the text"


def header(file: str, found: Found, estimate: Estimate, remarks: Sequence[str]) -> list[str]:
    """What stands on top: what this is, how it is used, what it will take."""
    models = [
        f"  {model.name:<8}  {count(model.shape.parameters if model.shape else None):>6} parameters"
        + (
            f", {count(training.tokens)} tokens: {_share(training.epochs)}, {duration(training.seconds)}"
            if (training := model.training) is not None
            else ", from outside"
        )
        for model in estimate.models
    ]
    threads = estimate.measured.threads
    return [
        f"Written by gemmule init for {size(found.bytes)} of text in {found.documents:,} documents on this machine.",
        "",
        f"    gemmule run {file}          makes everything; after Ctrl-C the same command resumes",
        *(
            [f"    gemmule refine {file}       the text alone; --explain FILE[:N] says why a document went"]
            if found.refine
            else []
        ),
        f"    gemmule estimate {file}     what it will take, after a change of yours",
        "",
        f"It will take {duration(estimate.seconds)} here ({threads} thread{'s' * (threads > 1)}), "
        f"{size(estimate.peak_memory)} of memory and {size(estimate.disk)} of disk:",
        "",
        *models,
        *(["", *remarks] if remarks else []),
    ]


def _data(sources: Sequence[str], found: Found, sizes: Sizes, validation_fraction: float) -> list[str]:
    listed = (
        [f"sources = [{', '.join(map(_text, sources))}]"]
        if sum(map(len, sources)) < 60
        else ["sources = [", *(f"    {_text(source)}," for source in sources), "]"]
    )
    field = []
    if found.field is not None and found.field != "text":
        others = f"; there are also: {', '.join(map(shown, found.other_fields))}" if found.other_fields else ""
        field = [_line(f"field = {_text(found.field)}", f"of each record{others}")]
    skip = [_line('bad_records = "skip"', shown(found.left_out))] if found.left_out else []
    return [
        "[data]",
        *listed,
        *field,
        *skip,
        _line(f"validation_fraction = {validation_fraction:g}", "of the documents, held out for evaluation"),
        _line(f"sequence_length = {sizes.sequence_length}", "tokens in a window"),
    ]


def _refine(found: Found) -> list[str]:
    what = _line("[refine]", "before it is learned from; --dry-run counts, documents/refinery.html shows")
    return [what, *(_line(line.text, line.why) for line in found.refine)]


def _tokenizer(sizes: Sizes, teacher: OutsideTeacher | None) -> list[str]:
    vocabulary_size = sizes.vocabulary_size
    if teacher is None:
        why = "trained on this text; about the square root of its bytes"
        return ["[tokenizer]", _line(f"vocabulary_size = {vocabulary_size}", why)]
    lines = ["[tokenizer]", _line(f"from = {_text(teacher.tokenizer)}", "teacher and student read the same tokens")]
    if teacher.prune:
        lines.append(_line("prune = true", f"keep the tokens that this text uses: about {count(vocabulary_size)}"))
    return lines


def _teacher(sizes: Sizes, teacher: OutsideTeacher | None) -> list[str]:
    if teacher is not None:
        lines = ["[models.teacher]", _line(f"from = {_text(teacher.origin)}", "not trained here")]
        return [*lines, f"top_k = {teacher.top_k}"] if teacher.top_k else lines
    assert sizes.teacher is not None
    return [
        _line("[models.teacher]", "trained on the text; larger than its student, and for longer"),
        _architecture(sizes.teacher, sizes),
        _train(sizes.teacher),
    ]


def _student(sizes: Sizes, teacher: OutsideTeacher | None) -> list[str]:
    learn = ['learn_from = "teacher"']
    if teacher is not None and teacher.targets:
        kept = f'kind = "top-k", k = {teacher.top_k}' if teacher.top_k else f"bytes_per_token = {BYTES_PER_TOKEN:g}"
        learn.append(
            _line(f"distill = {{ targets = {{ {kept} }} }}", "the teacher runs once; its distributions are cached")
        )
    return [
        _line("[models.student]", "the model that you want: it learns its teacher's distribution at every token"),
        _architecture(sizes.student, sizes),
        *learn,
        _train(sizes.student),
    ]


def _architecture(model: Sized, sizes: Sizes) -> str:
    parameters = model.config(sizes.vocabulary_size, sizes.sequence_length).parameters
    shape = f"architecture = {{ layers = {model.layers}, width = {model.width}, heads = {model.heads} }}"
    return _line(shape, f"{count(parameters)} parameters")


def _train(model: Sized) -> str:
    batch = batch_for(model.tokens)
    rate = default_learning_rate(model.width, default_optimizer(model.width, {"batch_tokens": batch}))
    text = f'train = {{ tokens = "{_tokens(model.tokens)}", batch_tokens = {batch} }}'
    return _line(text, f"learning_rate, left out, is {rate:g}: by the width")


def _line(text: str, comment: str) -> str:
    """A line and why it is so."""
    return f"{text:<{COLUMN - 1}} # {comment}"


def _tokens(number: int) -> str:
    return f"{number / 1e6:g}M" if number >= 10**6 else f"{number / 1e3:g}k"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # a TOML basic string
