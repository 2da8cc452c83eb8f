"""What changes over training: the learning rate, and the next-token loss's share of the loss; and what is validated.

The rate warms up linearly, then falls by a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983); the share goes from
one value to another in a straight line.
"""

import math

from gemmule.model.config import TRAINING_PASSES
from gemmule.recipe import Distill, Train

VALIDATIONS = 20  # points of the validation curve
VALIDATION_SHARE = 0.05  # of the training's work, for all of them
VALIDATION_WINDOWS = 8, 32  # of each, at least and at most


def learning_rate(step: int, steps: int, train: Train) -> float:
    """The rate of step `step` (from 0) of `steps`."""
    warmup = math.ceil(steps * train.warmup_fraction)
    if step < warmup:
        return train.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    floor = train.final_learning_rate_fraction
    return train.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def next_token_weight(step: int, steps: int, distill: Distill) -> float:
    """The next-token loss's share at step `step` (from 0) of `steps`."""
    if not isinstance(distill.next_token_weight, list):
        return distill.next_token_weight
    first, last = distill.next_token_weight
    return first + (last - first) * step / max(1, steps - 1)


def validation_windows(steps: int, windows_per_batch: int) -> int:
    """How many windows each validation reads. A window of it, forward only, is a third of one of training's work."""
    fewest, most = VALIDATION_WINDOWS
    return max(fewest, min(most, int(VALIDATION_SHARE * TRAINING_PASSES * steps * windows_per_batch / VALIDATIONS)))
