"""Text from a model.

    sampling   the loop: prompts in, text out, whole or in pieces
    logits     from logits to the next token
    reading    tokens through the model's cache: a prompt in chunks, a step of one token, compiled
    text       from ids to text as they come

`gemmule.generate` is this folder and, called, the function of `sampling` by that name: importing any module in here
makes Python bind the folder to the name `generate` in `gemmule`, and it would hide the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)


class _CallableFolder(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from gemmule.generate.sampling import generate

        return generate(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableFolder
