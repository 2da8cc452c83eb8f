"""How varied what a model writes is, beside the text that it should be like: a number alone says nothing here.

The model goes on, at temperature 1, from openings spread over the text, and its continuations are measured as those of
the text itself are, after the same openings and cut at the same length:

- distinct-n: of all runs of n tokens, how many are different (Li et al. 2016, arXiv 1510.03055). It falls with the
  number of tokens, so compare it where these are about as many.
- repetition: of a continuation's runs of 4 tokens, the share that were there before (seq-rep-4, Welleck et al. 2019,
  arXiv 1908.04319), in the mean.
- the mean length in tokens, and the share that ended by `<eos>` before the limit.

Tokens are the model's: models of different tokenizers compare by how far each is from the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from gemmule.base.errors import RequestError
from gemmule.evaluate.intervals import interval
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.continuing import continuations, documents, spread
from gemmule.evaluate.tasks.rates import wilson

SAMPLES = 200
OPENING, NEW = 16, 128  # tokens
RUN = 4  # tokens, of what counts as repeated


def run(asked: Asked) -> dict[str, Any]:
    """The measures of what the model writes; under "text" those of the given text, None without one.

    Without text it writes from nothing, `<bos>`.

    Raises RequestError where no document is longer than an opening, or the model reads too little.
    """
    tokenizer, chance = asked.tokenizer, np.random.default_rng(asked.seed)
    start = tokenizer.opening if asked.texts else tokenizer.opening or [tokenizer.eos_id]
    opening = min(OPENING, asked.context // 4) if asked.texts else 0
    new = min(NEW, asked.context - len(start) - opening)
    if new < 1 or opening + len(start) < 1:
        raise RequestError(f"gemmule:diversity: the model reads {asked.context} tokens, too few to write any")
    texts = [np.append(ids, tokenizer.eos_id) for ids in documents(asked)]
    long = [ids for ids in texts if len(ids) > opening + 1]
    if asked.texts and not long:
        raise RequestError(
            f"gemmule:diversity: needs a document of more than {opening} tokens, and the longest of the {len(texts):,} "
            f"given has {max(map(len, texts)) - 1}: name longer text, or none"
        )
    # a document is a row of places, one after the other; each needs an opening and a token after it
    places = spread([1 + (len(ids) - opening - 1) // (opening + new) for ids in long], SAMPLES, chance)
    stretches = [long[d][(opening + new) * place :][: opening + new].tolist() for d, place in places]
    prompts = [[*start, *stretch[:opening]] for stretch in stretches] if asked.texts else [start] * SAMPLES
    seeds = chance.integers(2**63, size=len(prompts)).tolist()
    written = continuations(asked, prompts, new, "diversity", [tokenizer.eos_id], seeds)
    theirs = [stretch[opening:] for stretch in stretches]
    theirs = [ids[:-1] if ids[-1] == tokenizer.eos_id else ids for ids in theirs]
    return {
        **measures(written, new),
        "text": measures(theirs, new) if asked.texts else None,
        "opening_tokens": opening,
        "max_new_tokens": new,
        "temperature": 1.0,
        "documents": len({d for d, _ in places}),
        "documents_too_short": len(texts) - len(long),
    }


def measures(written: Sequence[Sequence[int]], limit: int) -> dict[str, Any]:
    """Of continuations (one or more), none longer than `limit`: a shorter one ended by itself."""
    repeated = [1 - len(set(runs)) / len(runs) for ids in written if (runs := list(_runs(ids, RUN)))]
    lengths, ended = [len(ids) for ids in written], sum(len(ids) < limit for ids in written)
    return {
        **{f"distinct_{n}": _distinct(written, n) for n in (1, 2, 3)},
        "repetition": sum(repeated) / len(repeated) if repeated else None,
        "repetition_interval": _interval(repeated, 1),
        "mean_length": sum(lengths) / len(lengths),
        "mean_length_interval": _interval(lengths, limit),
        "ended": ended / len(written),
        "ended_interval": list(wilson(ended, len(written))),
        "count": len(written),
        "tokens": sum(lengths),
    }


def _runs(ids: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    return zip(*(ids[start:] for start in range(n)), strict=False)


def _distinct(written: Sequence[Sequence[int]], n: int) -> float | None:
    runs = list(chain.from_iterable(_runs(ids, n) for ids in written))
    return len(set(runs)) / len(runs) if runs else None


def _interval(values: Sequence[float], largest: float) -> list[float] | None:
    """Of the mean of values from 0 to `largest`."""
    found = interval(values, [1] * len(values)) if values else None
    return None if found is None else [max(0.0, found[0]), min(float(largest), found[1])]
