"""Draws text from a model, token by token, with the keys of earlier tokens cached.

- One prompt or a batch of them, of any lengths; each row gets the text that it would get alone.
- The same seed gives the same text: the draws come from generators of their own, on the CPU.
- Control tokens and ids that no text has are never drawn; the end of the document ends the text.
- Streamed pieces are whole characters, and stay.

`logits` says how a token is drawn, `text` how ids become text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.generate.logits import draw, penalise, uniform_numbers
from gemmule.generate.reading import read
from gemmule.generate.text import TextStream
from gemmule.model.cache import Cache
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.recipe.generation import Sampling, check

if TYPE_CHECKING:
    from gemmule.tokenize.tokenizer import Tokenizer

ROOM = 8192  # new tokens for which the cache has room from the start; past it, it grows


@overload
def generate(
    model: Gemma2, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int = 100, stop: Sequence[str] = (),
    stream: Literal[False] = False, compile: compiling.Compile = "auto", **sampling: Any,
) -> str: ...  # fmt: skip


@overload
def generate(
    model: Gemma2, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int = 100, stop: Sequence[str] = (),
    stream: Literal[True], compile: compiling.Compile = "auto", **sampling: Any,
) -> Iterator[str]: ...  # fmt: skip


@overload
def generate(
    model: Gemma2, tokenizer: Tokenizer, prompt: list[str], *, max_new_tokens: int = 100, stop: Sequence[str] = (),
    stream: Literal[False] = False, compile: compiling.Compile = "auto", **sampling: Any,
) -> list[str]: ...  # fmt: skip


def generate(
    model: Gemma2,
    tokenizer: Tokenizer,
    prompt: str | list[str],
    *,
    max_new_tokens: int = 100,
    stop: Sequence[str] = (),
    stream: bool = False,
    compile: compiling.Compile = "auto",
    **sampling: Any,
) -> str | list[str] | Iterator[str]:
    """What the model writes after `prompt`, without the prompt; after each, if it is a list.

    With `stream`, an iterator of the text's pieces (of one prompt). The text ends with the document, before the first
    of the strings in `stop`, or after `max_new_tokens` tokens; half a character at the end is left out. A control
    token's name in `stop`, as <end_of_turn>, stands for the token. `compile` is that of `generate_batch`; the other
    arguments are the fields of `Sampling`.

    Raises RequestError at once for an impossible setting, WorkError if the model's logits are no numbers.
    """
    prompts = [prompt] if isinstance(prompt, str) else prompt
    rows, vocabulary_size = model.config.vocabulary_size, tokenizer.vocabulary_size
    if rows < vocabulary_size:
        raise RequestError(
            f"the model knows {rows} tokens and its tokenizer {vocabulary_size}: they don't belong together"
        )
    control = tokenizer.control
    ends = {tokenizer.eos_id} | {control[name] for name in stop if name in control}
    stops = [string for string in stop if string not in control]
    given = [[*tokenizer.opening, *tokenizer.encode(text)] or [tokenizer.eos_id] for text in prompts]
    texts = [TextStream(tokenizer, stops, ids) for ids in given]
    steps = generate_batch(
        model,
        given,
        max_new_tokens=max_new_tokens,
        excluded=(set(control.values()) - ends) | set(range(vocabulary_size, rows)),
        stop=ends,
        compile=compile,
        sampling=Sampling(**sampling),
    )
    pieces = _pieces(texts, steps)
    if stream:
        if len(texts) != 1:
            raise RequestError(f"stream: one prompt can be streamed, and these are {len(texts)}")
        return (piece for (piece,) in pieces if piece)
    whole = ["".join(parts) for parts in zip(*pieces, strict=True)]
    return whole[0] if isinstance(prompt, str) else whole


def _pieces(texts: list[TextStream], steps: Iterator[list[int | None]]) -> Iterator[list[str]]:
    """At every step what each row has to add to its text."""
    for step in steps:
        yield [
            "" if number is None or text.ended else text.add(number) for text, number in zip(texts, step, strict=True)
        ]
        if all(text.ended for text in texts):
            break
    yield [text.finish() for text in texts]


def generate_ids(
    model: Gemma2,
    ids: Tensor,
    *,
    max_new_tokens: int = 100,
    excluded: Collection[int] = (),
    stop: Collection[int] = (),
    compile: compiling.Compile = "auto",
    **sampling: Any,
) -> Iterator[int]:
    """`generate_batch` of the one prompt ids [1, T] (int64): the ids that the model draws one after the other."""
    steps = generate_batch(
        model,
        ids.tolist(),
        max_new_tokens=max_new_tokens,
        excluded=excluded,
        stop=stop,
        compile=compile,
        sampling=Sampling(**sampling),
    )
    return (number for (number,) in steps if number is not None)


def generate_batch(
    model: Gemma2,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 100,
    excluded: Collection[int] = (),
    stop: Collection[int] = (),
    compile: compiling.Compile = "auto",
    sampling: Sampling | None = None,
    seeds: Sequence[int] | None = None,
) -> Iterator[list[int | None]]:
    """At every step the next id of each row; None for a row that has ended. Ends when all have.

    Ids in `excluded` are never drawn. The first id in `stop` ends a row and is not given. `compile` makes each step
    faster and takes seconds before the second one; "auto": if that is likely to pay for this many tokens. All rows draw
    by the same seed, unless `seeds` has one for each.

    Raises RequestError at once for an impossible setting, WorkError if the model's logits are no numbers.
    """
    check("max_new_tokens", max_new_tokens)
    if not all(prompts):
        raise RequestError("a prompt has no token: begin it with <bos>")
    compiled = compile is True or (compile == "auto" and compiling.pays_for_generating(model, max_new_tokens))
    sampling = sampling or Sampling()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or [sampling.seed] * len(prompts)]
    return _steps(model, prompts, max_new_tokens, excluded, frozenset(stop), sampling, generators, compiled)


def _steps(
    model: Gemma2,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    excluded: Collection[int],
    stop: frozenset[int],
    sampling: Sampling,
    generators: list[torch.Generator],
    compiled: bool,
) -> Iterator[list[int | None]]:
    if not prompts:
        return
    device = model.model.embed_tokens.weight.device
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    unread = torch.tensor([[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)])
    ragged = torch.tensor(padding, device=device) if any(padding) else None
    cache = Cache(model.config, ragged, capacity=longest + min(max_new_tokens, ROOM) - 1, steady=compiled)
    barred = torch.tensor(sorted(excluded), dtype=torch.int64, device=device)
    seen = torch.zeros(len(prompts), model.config.vocabulary_size, dtype=torch.bool, device=device)
    for row, prompt in zip(seen, prompts, strict=True):
        row[list(prompt)] = True
    ended = [False] * len(prompts)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            logits = read(model, unread.to(device), cache, compiled=compiled)
            if sampling.repetition_penalty != 1:
                logits = penalise(logits, seen, sampling.repetition_penalty)
            logits[:, barred] = -torch.inf
            unread = draw(logits, sampling, uniform_numbers(generators).to(device))[:, None]  # [B, 1]
            seen.scatter_(1, unread, True)
            step = unread[:, 0].tolist()
        ended = [before or number in stop for before, number in zip(ended, step, strict=True)]
        if all(ended):
            return
        yield [None if over else number for over, number in zip(ended, step, strict=True)]
