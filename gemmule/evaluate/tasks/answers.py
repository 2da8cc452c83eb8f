"""Short answers to questions from the user's own records, by exact match.

The prompt is the question and a newline, without examples; the answer is what the model greedily writes up to an empty
line or `<eos>`. Where the record's answer ends in "#### 18", as GSM8K's do (Cobbe et al. 2021, arXiv 2110.14168), what
stands behind the "####" is compared, and a model that never gets to one is wrong; else the first line. A comma between
digits, a dollar sign, a dot at the end, zeros behind the decimal point, case and white space do not count.
"""

from __future__ import annotations

import re
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.continuing import continuations
from gemmule.evaluate.tasks.rates import wilson

NEW = 200  # tokens, or as many as the model's context has room for
MARK, EMPTY_LINE = "####", "\n\n"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def run(asked: Asked) -> dict[str, Any]:
    """The share of right answers, and of texts in which the model gave any ("answered").

    A question that fills the model's context counts as wrong, and in "too_long".

    Raises RequestError where there are no records, or none that the model can read.
    """
    if not asked.records:
        raise RequestError(
            "gemmule:answers: needs records with a question and its answer: name a jsonl, json, csv or parquet file "
            "with the fields question and answer (or prompt and answer, prompt and completion)"
        )
    tokenizer = asked.tokenizer
    encoded = tokenizer.encode_batch([record["question"] + "\n" for record in asked.records])
    prompts = [[*tokenizer.opening, *ids] for ids in encoded]
    too_long = sum(len(ids) >= asked.context for ids in prompts)
    if too_long == len(prompts):
        raise RequestError(
            f"gemmule:answers: the model reads {asked.context} tokens, and the shortest question has "
            f"{min(map(len, prompts))}"
        )

    def ended(ids: list[int]) -> bool:
        return EMPTY_LINE in tokenizer.decode(ids[-len(EMPTY_LINE) :])

    written = continuations(asked, prompts, NEW, "answers", [tokenizer.eos_id], ended=ended)
    texts = [tokenizer.decode(ids).split(EMPTY_LINE)[0] for ids in written]
    references = [record["answer"] for record in asked.records]
    answers = [answer_in(text, reference) for text, reference in zip(texts, references, strict=True)]
    right = sum(
        answer is not None and answer == answer_in(reference, reference)
        for answer, reference in zip(answers, references, strict=True)
    )
    count = len(answers)
    return {
        "exact_match": right / count,
        "interval": list(wilson(right, count)),
        "count": count,
        "answered": sum(answer is not None for answer in answers) / count,
        "too_long": too_long,
        "max_new_tokens": NEW,
    }


def answer_in(text: str, reference: str) -> str | None:
    """The answer that a text gives, to be compared; found as the reference shows it. None where there is none."""
    if MARK not in reference:
        return _normalised(text) or None
    _, mark, after = text.partition(MARK)
    line = _normalised(after)
    number = NUMBER.search(line)
    return (_without_zeros(number[0]) if number else line) or None if mark else None


def _normalised(text: str) -> str:
    line = re.sub(r"(?<=\d),(?=\d)", "", next(iter(text.strip().splitlines()), "")).replace("$", "")
    line = " ".join(line.split()).rstrip(".").casefold()
    return _without_zeros(line) if NUMBER.fullmatch(line) else line


def _without_zeros(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
