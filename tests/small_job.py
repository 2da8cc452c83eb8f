"""The shapes of the models in tests of training, and what is asked of their weights."""

from __future__ import annotations

import torch

from gemmule.model.config import Gemma2Config
from gemmule.recipe import Machine

LENGTH = 16
SMALL = Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8)
LARGE = Gemma2Config(300, 2, 32, 4, 2, 8, 64, 8)
PLAIN = Machine(device="cpu", compile=False)


def weights_of(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)
