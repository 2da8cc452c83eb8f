"""A number hidden in long text, and asked for at its end: what the tasks `passkey` and `needle` share.

Prompts are of several lengths, and the number lies at several depths. It counts as found in two ways:

- by choice: of ten numbers of equally many tokens, the hidden one is the likeliest answer. A small base model can pass
  that; who sees nothing of it is right one time in ten.
- exactly: the text that the model writes, greedily, begins with the number and nothing longer.

After Mohtashami and Jaggi 2023 (arXiv 2305.16300, section 4.2), where a model is asked for the number alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.likelihood import losses
from gemmule.tokenize.tokenizer import Tokenizer

PARTS = (8, 4, 2, 1)  # of the context, that a prompt is long
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the text, in front of the sentence
COUNT = 5  # prompts of each length and depth
CHOICES = 10
DIGITS = 5
TRIES = 1000  # numbers, of which some have as many tokens as the hidden one

Piece = Sequence[int]  # the ids of a sentence or so: between two of them something can be hidden


@dataclass(frozen=True)
class Needle:
    """What is hidden and what is asked, in words; `{}` is the number."""

    sentence: str
    question: str  # after which the number comes


@dataclass(frozen=True)
class Prompt:
    """One question in ids."""

    length: int  # tokens at most, the answer's included
    depth: float
    ids: list[int]
    choices: list[list[int]]  # answers; the first is right
    number: str


def ask(asked: Asked, pieces: Sequence[Piece], needle: Needle, name: str) -> dict[str, Any]:
    """Hides numbers among `pieces` and asks for them.

    Returns `accuracy` by choice, `chance` of that, `exact` matches of what is written, `count`; the same by length and
    depth (`by_length_and_depth`); and `too_short`, the lengths that have no room for the question.

    Raises RequestError if the model's context has none, or the pieces do not fill it.
    """
    available = sum(map(len, pieces))
    if available < asked.context:
        raise RequestError(
            f"{name}: the text has {available:,} tokens, and the model reads {asked.context:,}: give more text"
        )
    random = Random(asked.seed)
    prompts, too_short = [], []
    for part in PARTS:
        length = asked.context // part
        cell = [_prompt(asked.tokenizer, pieces, needle, length, depth, random) for depth in DEPTHS * COUNT]
        fitting = [prompt for prompt in cell if prompt is not None]
        if len(fitting) < len(cell):
            too_short.append(length)
        else:
            prompts += fitting
    if not prompts:
        raise RequestError(
            f"{name}: a context of {asked.context:,} tokens is too short: the sentence and its question take "
            f"{_least(asked.tokenizer, needle):,} and need text around them"
        )
    by_choice = _chosen(asked, prompts, name)
    exactly = _written(asked, prompts)
    cells = []
    for length in dict.fromkeys(prompt.length for prompt in prompts):
        for depth in DEPTHS:
            of = [place for place, prompt in enumerate(prompts) if (prompt.length, prompt.depth) == (length, depth)]
            cells.append({"length": length, "depth": depth} | _shares(by_choice, exactly, of))
    whole = _shares(by_choice, exactly, range(len(prompts)))
    return {**whole, "chance": 1 / CHOICES, "by_length_and_depth": cells, "too_short": too_short}


def _prompt(
    tokenizer: Tokenizer, pieces: Sequence[Piece], needle: Needle, length: int, depth: float, random: Random
) -> Prompt | None:
    """A prompt that with its answer is `length` tokens long, or a piece less; None where there is no room."""
    number, choices = _choices(tokenizer, random)
    sentence, question = tokenizer.encode(" " + needle.sentence.format(number)), tokenizer.encode(" " + needle.question)
    first = random.randrange(len(pieces))
    room = length - len(tokenizer.opening) - len(sentence) - len(question) - len(choices[0])
    if room < 1:
        return None
    before, after = _cut(pieces, first, room, depth)
    ids = [*tokenizer.opening, *before, *sentence, *after, *question]
    return Prompt(length, depth, ids, choices, number)


def _cut(pieces: Sequence[Piece], first: int, room: int, depth: float) -> tuple[list[int], list[int]]:
    """`room` tokens of text from the piece `first` on, in a ring; of the first piece it has the end.

    In two parts, the first of them about `depth` of all, between two pieces.
    """
    chosen: list[Piece] = []
    total, place = 0, first
    while total < room:
        chosen.append(pieces[place % len(pieces)])
        total, place = total + len(chosen[-1]), place + 1
    chosen[0] = chosen[0][total - room :]
    ends = [0]
    for piece in chosen:
        ends.append(ends[-1] + len(piece))
    split = min(range(len(ends)), key=lambda place: abs(ends[place] - depth * room))
    halves = chosen[:split], chosen[split:]
    before, after = ([number for piece in half for number in piece] for half in halves)
    return before, after


def _choices(tokenizer: Tokenizer, random: Random) -> tuple[str, list[list[int]]]:
    """A number, and the ids of it and of others that take as many tokens."""

    def draw() -> str:
        return str(random.randrange(10 ** (DIGITS - 1), 10**DIGITS))

    number = draw()
    found = {number: tokenizer.encode(f" {number}")}
    for _ in range(TRIES):
        other = draw()
        ids = tokenizer.encode(f" {other}")
        if len(ids) == len(found[number]):
            found[other] = ids
        if len(found) == CHOICES:
            return number, list(found.values())
    raise RequestError("this tokenizer gives hardly two numbers of five digits equally many tokens")


def _chosen(asked: Asked, prompts: Sequence[Prompt], name: str) -> list[bool]:
    """Whether the right answer of each prompt is likelier than all others."""
    each = losses(asked.model, [(prompt.ids, choice) for prompt in prompts for choice in prompt.choices], name)
    rows = [each[start : start + CHOICES] for start in range(0, len(each), CHOICES)]
    return [row[0] < min(row[1:]) for row in rows]


def _written(asked: Asked, prompts: Sequence[Prompt]) -> list[bool]:
    """Whether the model writes the number of each prompt."""
    found = []
    for prompt_batch in _alike(prompts, tokens_at_once(asked.model.vocabulary_size)):
        new = max(len(prompt.choices[0]) for prompt in prompt_batch)
        texts = asked.model.continuations([prompt.ids for prompt in prompt_batch], new, [asked.tokenizer.eos_id])
        for prompt, ids in zip(prompt_batch, texts, strict=True):
            begins = re.match(r"\s*(\d+)", asked.tokenizer.decode(ids))
            found.append(begins is not None and begins[1] == prompt.number)
    return found


def _alike(prompts: Sequence[Prompt], tokens: int) -> list[list[Prompt]]:
    """In order, in batches of `tokens` at most, or of one prompt: each length has its own."""
    batches: list[list[Prompt]] = []
    for prompt in prompts:
        last = batches[-1] if batches else []
        if last and last[0].length == prompt.length and (len(last) + 1) * prompt.length <= tokens:
            last.append(prompt)
        else:
            batches.append([prompt])
    return batches


def _shares(by_choice: Sequence[bool], exactly: Sequence[bool], of: Sequence[int]) -> dict[str, Any]:
    return {
        "accuracy": sum(by_choice[place] for place in of) / len(of),
        "exact": sum(exactly[place] for place in of) / len(of),
        "count": len(of),
    }


def _least(tokenizer: Tokenizer, needle: Needle) -> int:
    number = "1" * DIGITS
    texts = " " + needle.sentence.format(number), " " + needle.question, f" {number}"
    return len(tokenizer.opening) + sum(len(tokenizer.encode(text)) for text in texts)
