"""gemmule: a large model teaches a small one.

    model = gemmule.load(folder)                      # any Gemma 2 folder or hub id; eval mode, float32
    tokenizer = gemmule.load_tokenizer(folder)
    logits = model(ids)                               # [B, T] int64 -> [B, T, V] float32
    gemmule.generate(model, tokenizer, "To be", max_new_tokens=50)
    gemmule.losses.forward_kl(...)                    # and reverse_kl, jsd: for a training loop of one's own
    gemmule.TokenShards(path)[start:stop]             # ids of a token stream
    gemmule.TargetStore(path)[start:stop]             # the teacher's distributions of those tokens

The names below load on first use, so that `import gemmule` costs nothing: torch alone takes three seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gemmule.lazy import submodules

__version__ = "0.1.0"

_PUBLIC = {
    "Gemma2": "gemmule.model.transformer",
    "Gemma2Config": "gemmule.model.config",
    "TargetStore": "gemmule.distill.targets",
    "TokenShards": "gemmule.data.shards",
    "load": "gemmule.model.weights",
    "load_tokenizer": "gemmule.tokenizer.load",
    "losses": "gemmule.distill",
}

__all__ = ["Gemma2", "Gemma2Config", "TargetStore", "TokenShards", "generate", "load", "load_tokenizer", "losses"]

if TYPE_CHECKING:
    from gemmule.data.shards import TokenShards
    from gemmule.distill import losses
    from gemmule.distill.targets import TargetStore
    from gemmule.generate.sampling import generate
    from gemmule.model.config import Gemma2Config
    from gemmule.model.transformer import Gemma2
    from gemmule.model.weights import load
    from gemmule.tokenizer.load import load_tokenizer


_submodule = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        return _submodule(name)
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
