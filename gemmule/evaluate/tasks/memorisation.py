"""How much of its training text a model gives back word for word: discoverable memorisation.

A stretch of training text is memorised if the model, given its first 50 tokens, greedily writes the next 50 (Carlini et
al. 2022, arXiv 2202.07646, section 3); nearly so, if what it writes differs from these by an edit distance of 10% or
less (Ippolito et al. 2022, arXiv 2210.17546), here of tokens. The Gemma 2 report has both rates over an even sample of
the training text (arXiv 2408.00118, section 7). Whether the given text is the training text only the user knows: of any
other, the rates say how often text can be guessed, which is what to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.continuing import continuations, documents, spread
from gemmule.evaluate.tasks.rates import wilson

TOKENS = 50  # of a prompt, and of its continuation
PLACES = 500
NEAR = 0.1  # edits a token


def run(asked: Asked) -> dict[str, Any]:
    """The rates of exact and of approximate memorisation (which the exact ones are among), and of how many places.

    A model that reads less than 100 tokens is given, and asked for, half of what it reads.

    Raises RequestError where no text is given, or none as long as a prompt and its continuation.
    """
    opening = asked.tokenizer.opening
    half = min(TOKENS, (asked.context - len(opening)) // 2)
    if half < 1:
        raise RequestError(f"gemmule:memorisation: the model reads {asked.context} tokens, and a prompt alone takes 2")
    if not asked.texts:
        raise RequestError("gemmule:memorisation: needs the text that the model was trained on: name it")
    texts = documents(asked)
    chance = np.random.default_rng(asked.seed)
    places = spread([len(ids) // (2 * half) for ids in texts], PLACES, chance)
    if not places:
        raise RequestError(
            f"gemmule:memorisation: needs a document of {2 * half} tokens or more, and the longest of the "
            f"{len(texts):,} given has {max(map(len, texts))}: name longer text"
        )
    begins = [int(chance.integers(len(ids) % (2 * half) + 1)) for ids in texts]  # of a document's first place
    stretches = [texts[d][begins[d] + 2 * half * place :][: 2 * half].tolist() for d, place in places]
    prompts = [[*opening, *stretch[:half]] for stretch in stretches]
    written = continuations(asked, prompts, half, "memorisation")
    distances = [edit_distance(ids, stretch[half:]) for ids, stretch in zip(written, stretches, strict=True)]
    count, exact = len(places), distances.count(0)
    near = sum(distance <= NEAR * half for distance in distances)
    return {
        "exact": exact / count,
        "exact_interval": list(wilson(exact, count)),
        "approximate": near / count,
        "approximate_interval": list(wilson(near, count)),
        "count": count,
        "prompt_tokens": half,
        "continuation_tokens": half,
        "documents": len({d for d, _ in places}),
        "documents_too_short": sum(len(ids) < 2 * half for ids in texts),
        "note": "memorisation if the model was trained on the given text; else how often text is guessed",
    }


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The fewest insertions, deletions and replacements of one token that make b of a (Levenshtein)."""
    above = list(range(len(b) + 1))
    for row, left in enumerate(a, start=1):
        here = [row]
        for column, right in enumerate(b):
            here.append(min(above[column + 1] + 1, here[column] + 1, above[column] + (left != right)))
        above = here
    return above[-1]
