"""Model folders to convert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gemmule import tokenize
from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.refine.compressed import read_blocks
from gemmule.refine.sources import BUNDLED, resolve
from gemmule.tokenize import Tokenizer

VOCABULARY = 2048
LIVELY = range(1000, 1064)  # the tokens that a model's head tells well apart; whole characters, as llama.cpp likes
TINY = {
    "vocabulary_size": VOCABULARY, "layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "head_dim": 16,
    "ffn_width": 160, "window": 16, "context_length": 512,
}  # fmt: skip


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    (hamlet,) = (file for file in resolve([BUNDLED], base=Path()) if "hamlet" in file.name)
    return tokenize.train([b"".join(read_blocks(hamlet.path, hamlet.name)).decode()], VOCABULARY)


def fill(model: Gemma2, seed: int, calm: bool) -> Gemma2:
    """Random weights of a model that decides: no norm at zero, scores that reach the cap, logits far apart.

    A calm one's attention is flat and its logits small, so that rounding stays small through many layers.
    What the layers add outweighs the embedding, or the model, whose head is its embedding, would only repeat itself.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(dict(model.named_parameters()).items()):
            scale = 0.3 if weight.dim() == 1 else weight.shape[-1] ** -0.5
            if "q_proj" in name or "k_proj" in name:
                scale *= 1 if calm else 4
            if "embed_tokens" in name:
                scale *= 0.3
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
        model.model.norm.weight.add_(2 if calm else 25)
        table = model.model.embed_tokens.weight
        table[: LIVELY.start] *= 0.1
        table[LIVELY.stop :] *= 0.1
    return model.eval()


@pytest.fixture
def make_folder(words: Tokenizer, tmp_path: Path) -> Callable[..., Path]:
    """A function: changes of a tiny configuration to the folder of a random model of it, with a tokenizer."""

    def make(
        name: str = "model", dtype: torch.dtype = torch.float32, seed: int = 9, calm: bool = False, **changes
    ) -> Path:
        model = fill(Gemma2(Gemma2Config(**(TINY | changes))), seed, calm)
        weights.save(model.to(dtype), tmp_path / name)
        tokenize.save(words, tmp_path / name)
        return tmp_path / name

    return make
