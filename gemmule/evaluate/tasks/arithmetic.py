"""Sums, differences and products of whole numbers, by exact match: what a model writes in the line after "23 + 5 =".

As GPT-3 was asked (Brown et al. 2020, arXiv 2005.14165, section 3.9.1): each operation and number of digits by itself,
after examples of the same kind; but in signs instead of words. No example is among the questions.
"""

from __future__ import annotations

import operator
from random import Random
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.continuing import continuations
from gemmule.evaluate.tasks.rates import wilson

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
DIGITS = (1, 2, 3)  # of both numbers
QUESTIONS, EXAMPLES = 40, 4  # of each kind: together no more than there are differences of one digit
NEW = 10  # tokens: of a space, six digits and the end of the line at one token a character, and then some


def run(asked: Asked) -> dict[str, Any]:
    """The share of right answers, in all and by kind. Fewer examples where the model reads too little for all.

    Raises RequestError where it reads too little for a question.
    """
    kinds = [(sign, digits) for sign in OPERATIONS for digits in DIGITS]
    chance = Random(asked.seed)
    problems = [_problems(sign, digits, chance) for sign, digits in kinds]
    prompts, shots = [], []
    for all_lines in problems:
        for examples in range(EXAMPLES, -1, -1):
            texts = ["".join(all_lines[:examples]) + _question(line) for line in all_lines[EXAMPLES:]]
            ids = [[*asked.tokenizer.opening, *some] for some in asked.tokenizer.encode_batch(texts)]
            if max(map(len, ids)) + NEW <= asked.context:
                break
        else:
            raise RequestError(
                f"gemmule:arithmetic: the model reads {asked.context} tokens, and a question with its answer takes up "
                f"to {max(map(len, ids)) + NEW}"
            )
        prompts += ids
        shots.append(examples)
    decode = asked.tokenizer.decode
    stop = [asked.tokenizer.eos_id]
    written = continuations(asked, prompts, NEW, "arithmetic", stop, ended=lambda ids: "\n" in decode(ids[-1:]))
    answers = [decode(ids).split("\n")[0].strip() for ids in written]
    questions = [line for all_lines in problems for line in all_lines[EXAMPLES:]]
    right = [answer == line.split("=")[1].strip() for answer, line in zip(answers, questions, strict=True)]
    by_kind = [
        {"operation": sign, "digits": digits, "examples": examples, **_shares(right[first : first + QUESTIONS])}
        for (sign, digits), examples, first in zip(kinds, shots, range(0, len(right), QUESTIONS), strict=True)
    ]
    return {**_shares(right), "by_kind": by_kind}


def _problems(sign: str, digits: int, chance: Random) -> list[str]:
    """Lines such as "23 + 5 = 28\\n", all different: examples, then questions. None is another one turned around."""
    least, most = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits - 1
    found: dict[tuple[int, int], str] = {}
    while len(found) < EXAMPLES + QUESTIONS:
        a, b = chance.randint(least, most), chance.randint(least, most)
        if sign == "-":
            a, b = max(a, b), min(a, b)
        found.setdefault((max(a, b), min(a, b)), f"{a} {sign} {b} = {OPERATIONS[sign](a, b)}\n")
    return list(found.values())


def _question(line: str) -> str:
    return line.partition("=")[0] + "="  # the space before the answer is a part of its token


def _shares(right: list[bool]) -> dict[str, Any]:
    return {
        "exact_match": sum(right) / len(right),
        "interval": list(wilson(sum(right), len(right))),
        "count": len(right),
    }
