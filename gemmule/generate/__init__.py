"""Text from a model: `gemmule.generate(model, tokenizer, prompt, *, max_new_tokens=100, stop=(), stream=False, ...)`.

    prompt              a text, or a list of texts, which are read as one batch
    max_new_tokens      at most so many tokens for each
    stop                texts before which it ends; <end_of_turn> and its like stand for the control token
    stream              whether to give an iterator of pieces, of whole characters, instead of the whole
    temperature         divides the logits; 0 takes the likeliest token
    top_k               draw among so many likeliest tokens
    top_p               draw among the fewest likeliest tokens whose probability reaches it
    min_p               draw among tokens at least so many times as likely as the likeliest
    repetition_penalty  above 1, tokens that are there already become less likely
    seed                of the draws
    compile             whether to compile a step: seconds once, faster after; "auto" where that is likely to pay

It gives what the model writes after the prompt, without the prompt: a str, for a list of prompts a list, with `stream`
an iterator. It raises RequestError (`gemmule.base.errors`) for an impossible setting.

The folder's modules:

    sampling   the loop: prompts in, text out, whole or in pieces
    settings   what may be asked for: each setting's range
    logits     from logits to the next token
    reading    tokens through the model's cache: a prompt in chunks, a step of one token, compiled
    text       from ids to text as they come

`gemmule.generate` is this folder and, called, the function of `sampling` by that name: importing any module in here
makes Python bind the folder to the name `generate` in `gemmule`, and it would hide the function.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from gemmule.base.lazy import submodules

if TYPE_CHECKING:
    from gemmule.model.transformer import Gemma2
    from gemmule.tokenize.tokenizer import Tokenizer

__getattr__ = submodules(__name__)


class _CallableFolder(ModuleType):
    def __call__(
        self,
        model: Gemma2,
        tokenizer: Tokenizer,
        prompt: str | list[str],
        *,
        max_new_tokens: int = 100,
        stop: Sequence[str] = (),
        stream: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        compile: bool | Literal["auto"] = "auto",
    ) -> str | list[str] | Iterator[str]:
        settings = dict(locals())
        del settings["self"]
        from gemmule.generate.sampling import generate

        return generate(**settings)


sys.modules[__name__].__class__ = _CallableFolder
