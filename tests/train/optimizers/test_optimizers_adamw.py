"""AdamW against PyTorch's own class."""

from __future__ import annotations

import torch
from small_job import LENGTH, SMALL, same, weights_of

from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer


def test_updates_are_to_the_bit_those_of_pytorchs_own_class():
    train = Train(tokens=1, learning_rate=1e-2, optimizer="adamw", weight_decay=0.1, embedding_learning_rate_factor=3.0)
    ours, theirs = Gemma2(SMALL).initialise(0), Gemma2(SMALL).initialise(0)
    optimizer = Optimizer(ours, train)
    named = dict(theirs.named_parameters())
    embedding = named.pop("model.embed_tokens.weight")
    groups = [
        {"weight_decay": 0.1, "params": [embedding], "factor": 3.0},
        {"weight_decay": 0.1, "params": [weight for weight in named.values() if weight.dim() == 2], "factor": 1.0},
        {"weight_decay": 0.0, "params": [weight for weight in named.values() if weight.dim() < 2], "factor": 1.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1.0, betas=(train.betas[0], train.betas[1]), fused=True)
    for step in range(5):
        ids = torch.arange(4 * LENGTH).view(4, LENGTH) * (step + 3) % 300
        for model, each in ((ours, optimizer), (theirs, reference)):
            each.zero_grad()
            model(ids, ids.roll(-1, 1)).backward()
        optimizer.step(1e-2 / (step + 1))
        for group in reference.param_groups:
            group["lr"] = 1e-2 / (step + 1) * group["factor"]
        reference.step()
    assert same(weights_of(ours), weights_of(theirs))
    assert not same(weights_of(ours), weights_of(Gemma2(SMALL).initialise(0)))
