"""The learning rate over training: a linear warm-up, then a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

import math

from gemmule.recipe import Train


def learning_rate(step: int, steps: int, train: Train) -> float:
    """The rate of step `step` (from 0) of `steps`."""
    warmup = math.ceil(steps * train.warmup_fraction)
    if step < warmup:
        return train.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    floor = train.final_learning_rate_fraction
    return train.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)
