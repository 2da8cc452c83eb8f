"""Models for tests: random in every tensor, norms included, and large enough to reach the caps."""

from __future__ import annotations

import pytest
import torch

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2


def perturb(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fills every parameter with random numbers: a norm left at zero would hide a fault in how its weight is used."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(dict(model.named_parameters()).items()):
            scale = 0.3 if weight.dim() == 1 else weight.shape[-1] ** -0.5
            if "q_proj" in name or "k_proj" in name:
                scale *= 5  # scores of some tens: beyond the cap of 50 now and then
            if "embed_tokens" in name:
                scale *= 12  # logits of some tens
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model


def small_config(**changes) -> Gemma2Config:
    shape = {
        "vocabulary_size": 64, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "head_dim": 10, "ffn_width": 48,
        "window": 8,
    }  # fmt: skip
    return Gemma2Config(**(shape | changes))


@pytest.fixture
def make_model():
    """A function: field changes of a small configuration to a random model of it, in eval mode."""

    def make(seed: int = 0, **changes) -> Gemma2:
        model = Gemma2(small_config(**changes))
        perturb(model, seed)
        return model.eval()

    return make


@pytest.fixture
def fill():
    return perturb
