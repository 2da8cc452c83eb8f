"""Draws text from a model, token by token, with the keys of earlier tokens cached.

- Temperature, then top-k, then nucleus (top-p, arXiv 1904.09751), in the order of transformers; temperature 0 takes
  the likeliest token.
- The same seed gives the same text: the draws come from a generator of their own, on the CPU.
- Control tokens and ids that no text has are never drawn; the end of the document ends the text.
- Streamed pieces are whole characters.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal, overload

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

from gemmule.errors import RequestError, WorkError
from gemmule.model.cache import Cache
from gemmule.model.transformer import Gemma2

if TYPE_CHECKING:
    from gemmule.tokenizer.load import Tokenizer

NEVER_DRAWN = ("<pad>", "<bos>", "<unk>")


@overload
def generate(
    model: Gemma2, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int = 100, temperature: float = 1.0,
    top_k: int | None = None, top_p: float | None = None, seed: int = 0, stream: Literal[False] = False,
) -> str: ...  # fmt: skip


@overload
def generate(
    model: Gemma2, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int = 100, temperature: float = 1.0,
    top_k: int | None = None, top_p: float | None = None, seed: int = 0, stream: Literal[True],
) -> Iterator[str]: ...  # fmt: skip


def generate(
    model: Gemma2,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stream: bool = False,
) -> str | Iterator[str]:
    """What the model writes after `prompt`, without the prompt; with `stream`, an iterator of its pieces.

    The text ends with the document, or after `max_new_tokens` tokens; half a character at the end is left out.
    The other arguments are those of `generate_ids`, which says what is refused.
    """
    rows, words = model.config.vocabulary_size, tokenizer.vocabulary_size
    if rows < words:
        raise RequestError(f"the model knows {rows} tokens and its tokenizer {words}: they don't belong together")
    control = (tokenizer.inner.token_to_id(name) for name in NEVER_DRAWN)
    excluded = {number for number in control if number is not None} | set(range(words, rows))
    ids = generate_ids(
        model,
        torch.tensor([[tokenizer.bos_id, *tokenizer.encode(prompt)]]),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        excluded=excluded,
        stop=(tokenizer.eos_id,),
    )
    pieces = _decode(tokenizer, ids)
    return pieces if stream else "".join(pieces)


def generate_ids(
    model: Gemma2,
    ids: Tensor,
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    excluded: Collection[int] = (),
    stop: Collection[int] = (),
) -> Iterator[int]:
    """The ids that the model draws one after the other when it has read ids [1, T] (int64).

    `top_k` keeps that many likeliest tokens, `top_p` the fewest likeliest whose probability reaches it. Ids in
    `excluded` are never drawn. The first id in `stop` ends the iteration and is not given.

    Raises RequestError at once for an impossible setting, WorkError if the model's logits are no numbers.
    """
    if max_new_tokens < 1:
        raise RequestError(f"max_new_tokens = {max_new_tokens}: must be at least 1")
    if not 0 <= temperature < math.inf:
        raise RequestError(f"temperature = {temperature}: must be a number from 0 up")
    if top_k is not None and top_k < 1:
        raise RequestError(f"top_k = {top_k}: must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestError(f"top_p = {top_p}: must be above 0 and at most 1")
    device = model.model.embed_tokens.weight.device
    generator = torch.Generator().manual_seed(seed)
    barred = torch.tensor(sorted(excluded), dtype=torch.int64)

    def draw() -> Iterator[int]:
        cache, unread = Cache(model.config), ids.to(device)
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                hidden = model.model(unread, cache)
                logits = model.logits(hidden[0, -1]).cpu()
                if not logits.isfinite().all():
                    raise WorkError("the model's logits are not finite: its weights hold NaN or infinity")
                logits[barred] = -torch.inf
            chosen = choose(logits, temperature, top_k, top_p, generator)
            if chosen in stop:
                return
            yield chosen
            unread = torch.tensor([[chosen]], device=device)

    return draw()


def choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """Draws one id by its logits [V], as `generate_ids` describes."""
    if temperature == 0:
        return int(logits.argmax())
    values, order = logits.sort(descending=True, stable=True)
    if top_k is not None:
        values = values[:top_k]
    # less the greatest first: divided by a tiny temperature alone, the values would all be infinite
    probabilities = torch.softmax((values - values[0]) / temperature, dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(0) - probabilities  # what the likelier ones add up to
        probabilities = probabilities.where(before < top_p, 0.0)
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def _decode(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[str]:
    decoder = DecodeStream(skip_special_tokens=True)
    for number in ids:
        piece = decoder.step(tokenizer.inner, number)
        if piece:
            yield piece
