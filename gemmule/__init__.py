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

from typing import TYPE_CHECKING

from gemmule.base.lazy import names

__version__ = "0.1.0"
__all__ = ["Gemma2", "Gemma2Config", "TargetStore", "TokenShards", "generate", "load", "load_tokenizer", "losses"]

if TYPE_CHECKING:
    from gemmule import losses
    from gemmule.generate.sampling import generate
    from gemmule.model.config import Gemma2Config
    from gemmule.model.transformer import Gemma2
    from gemmule.model.weights import load
    from gemmule.teach.targets.store import TargetStore
    from gemmule.tokenize.shards import TokenShards
    from gemmule.tokenize.tokenizer import load_tokenizer

__getattr__ = names(
    __name__,
    {
        "Gemma2": "model.transformer",
        "Gemma2Config": "model.config",
        "TargetStore": "teach.targets.store",
        "TokenShards": "tokenize.shards",
        "load": "model.weights",
        "load_tokenizer": "tokenize.tokenizer",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
