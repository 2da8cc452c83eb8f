"""What a completions server answers, checked before anything is made of it: behind this door it is trusted.

Of each place of a prompt (vLLM's `prompt_logprobs`) an answer names up to k tokens, and the prompt's own where it is
not among them. Held against what a distribution can be:

- as many places as the prompt has tokens, each an object of id: {"logprob": number}, no id twice, ids in range;
- log-probabilities finite or minus infinity, and at most 0 but for rounding;
- the probabilities of a place sum to more than 0 and at most 1, but for rounding;
- no more than k tokens named, but for the prompt's own; the answer is for the prompt that was sent.

Where fewer than k are named there are fewer: no token is made up. Nothing here speaks HTTP or imports torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from gemmule.base.errors import RequestError, WorkError, shown

ROUNDING = 1e-3  # by which a log-probability or a place's mass may be too large: logits in 16 bits are no better
IMPOSSIBLE = -1e9  # a log-probability of minus infinity, and what JSON's integers may hold beyond any float
ID = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
Row = list[tuple[int, float]]  # (id, log-probability), ids ascending


def parse(body: bytes, url: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises WorkError where there is none, or a key twice in one object."""
    try:
        answer = json.loads(body, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        what = f"not JSON ({shown(str(error), 80)})"
    else:
        if isinstance(answer, dict):
            return answer
        what = "no JSON object"
    raise WorkError(f"{url}: answered with {what}: {shown(body)}")


def model_name(answer: dict[str, Any], url: str) -> str:
    """The name of the first model that /models lists. Raises WorkError where it lists none."""
    models = answer.get("data")
    first = models[0] if isinstance(models, list) and models else None
    name = first.get("id") if isinstance(first, dict) else None
    if not isinstance(name, str) or not name:
        raise WorkError(
            f"{url}/models: names no model; is this the address of an OpenAI-compatible server? It sent: "
            f"{shown(json.dumps(answer))}"
        )
    return name


def read(answer: dict[str, Any], prompts: Sequence[Sequence[int]], k: int, vocabulary_size: int, url: str) -> list[Row]:
    """Of each prompt's tokens after the first, prompt after prompt, the top k that an answer gives there.

    Raises WorkError naming the server and what it sent where that can't be, RequestError where it can't give this.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise WorkError(f"{url}: its response has no choices: {shown(json.dumps(answer))}")
    by_index = {choice.get("index"): choice for choice in choices if type(choice.get("index")) is int}
    if len(choices) != len(prompts) or by_index.keys() != set(range(len(prompts))):
        numbers = shown(json.dumps([choice.get("index") for choice in choices]), 80)
        raise WorkError(f"{url}: returned {len(choices)} of {len(prompts)} prompts, with the numbers {numbers}")
    rows = []
    for number, prompt in enumerate(prompts):
        places = _places(by_index[number], prompt, url)
        rows += [
            _row(place, token, k, vocabulary_size, f"{url}: at token {at} of prompt {number}")
            for at, (place, token) in enumerate(zip(places, prompt, strict=True))
            if at
        ]
    return rows


def _places(choice: dict[str, Any], prompt: Sequence[int], url: str) -> list[Any]:
    if "prompt_logprobs" not in choice:
        raise RequestError(
            f"{url}: its responses have no prompt_logprobs: vLLM gives them, llama.cpp's server does not"
        )
    echoed = choice.get("prompt_token_ids")  # which vLLM gives where it is asked to
    if echoed is not None and echoed != list(prompt):
        raise WorkError(f"{url}: its response is for a different prompt than was sent: {shown(json.dumps(echoed))}")
    places = choice["prompt_logprobs"]
    if not isinstance(places, list):
        raise WorkError(f"{url}: its prompt_logprobs are not a list: {shown(json.dumps(places))}")
    if len(places) != len(prompt) or not all(places[1:]):
        raise WorkError(
            f"{url}: gave log-probabilities for {sum(map(bool, places))} of a prompt's {len(prompt) - 1} places; "
            "start vLLM with --no-enable-prefix-caching"
        )
    return places


def _row(place: Any, own: int, k: int, vocabulary_size: int, where: str) -> Row:
    """The top k of a place, without the prompt's `own` token where that is not among them."""
    if not isinstance(place, dict):
        raise WorkError(f"{where}: sent no log-probabilities by id, but {shown(json.dumps(place))}")
    entries = []
    mass = 0.0
    for key, entry in place.items():
        value: Any = entry.get("logprob") if isinstance(entry, dict) else None
        if not ID.fullmatch(key) or type(value) not in (int, float):
            raise WorkError(f"{where}: sent {shown(json.dumps({key: entry}))}, which is no id and its log-probability")
        number = int(key)
        if number >= vocabulary_size:
            raise WorkError(
                f"{where}: names token {number} of a vocabulary of {vocabulary_size}: tokenizer.from is not the "
                "server's tokenizer, or it sent nonsense"
            )
        if not value <= ROUNDING:  # NaN too
            raise WorkError(
                f"{where}: sent {shown(str(value), 40)} as the log-probability of token {number}: it must be a number "
                "of at most 0 (raw logits?)"
            )
        value = float(min(0.0, max(value, IMPOSSIBLE)))
        mass += math.exp(value)
        entries.append((number, value))
    if not 0 < mass <= 1 + ROUNDING:
        raise WorkError(f"{where}: sent probabilities that sum to {mass:.6g}: {shown(json.dumps(place))}")
    if len(entries) > k + 1 or (len(entries) == k + 1 and all(number != own for number, _ in entries)):
        raise WorkError(f"{where}: named {len(entries)} tokens where {k} were requested: {shown(json.dumps(place))}")
    if len(entries) > k:
        entries = sorted(entries, key=lambda entry: -entry[1])[:k]
    return sorted(entries)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice in one object")
    return found
