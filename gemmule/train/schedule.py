"""What changes over training: the learning rate, and the next-token loss's share of the loss; and what is validated.

The rate warms up linearly. Then it stays, and falls in a straight line over the last part ("wsd": warm-up, stable,
decay; Zhai et al. 2022, arXiv 2106.04560; Hu et al. 2024, arXiv 2404.06395); or it falls by a cosine from there on
(Loshchilov and Hutter 2017, arXiv 1608.03983). Until it falls, how long training will be makes no difference, so a
finished model can go on from there. The share goes from one value to another in a straight line.
"""

import math

from gemmule.model.config import TRAINING_PASSES
from gemmule.recipe import Distill, Train

# The keys of `train` that say how it goes on and ends, beside the batches' size
SCHEDULE = "tokens", "schedule", "warmup_fraction", "decay_fraction", "final_learning_rate_fraction"
WARMUP = 10  # steps, whatever their number: none, or a tenth of the steps, is no better on the demo
VALIDATIONS = 20  # points of the validation curve
VALIDATION_SHARE = 0.05  # of the training's work, for all of them
VALIDATION_WINDOWS = 8, 32  # of each, at least and at most


def learning_rate(step: int, steps: int, train: Train) -> float:
    """The rate of step `step` (from 0) of `steps`."""
    warmup, falls = warmup_steps(steps, train), decay_begins(steps, train)
    if step < warmup:
        return train.learning_rate * (step + 1) / warmup
    left = 1 - train.final_learning_rate_fraction
    if train.schedule == "cosine":
        progress = (step - warmup) / max(1, steps - 1 - warmup)
        return train.learning_rate * (1 - left + left * (1 + math.cos(math.pi * progress)) / 2)
    fallen = max(0, step + 1 - falls) / max(1, steps - falls)
    return train.learning_rate * (1 - left * fallen)


def warmup_steps(steps: int, train: Train) -> int:
    """The steps, of `steps`, in which the rate rises."""
    if train.warmup_fraction is None:
        return min(WARMUP, math.ceil(steps / 10))
    return math.ceil(steps * train.warmup_fraction)


def decay_begins(steps: int, train: Train) -> int:
    """The first step (from 0), of `steps`, whose rate is below the one before."""
    stays = 0.0 if train.decay_fraction is None else 1 - train.decay_fraction
    return max(warmup_steps(steps, train), math.floor(steps * stays))


def next_token_weight(step: int, steps: int, distill: Distill) -> float:
    """The next-token loss's share at step `step` (from 0) of `steps`."""
    if not isinstance(distill.next_token_weight, list):
        return distill.next_token_weight
    first, last = distill.next_token_weight
    return first + (last - first) * step / max(1, steps - 1)


def same_until(step: int, one: Train, other: Train, distill: Distill, sequence_length: int) -> bool:
    """Whether two trainings, which differ in keys of SCHEDULE alone, are the same up to `step`, to the bit."""
    lengths = one.steps(sequence_length), other.steps(sequence_length)
    return step <= min(lengths) and all(
        learning_rate(each, lengths[0], one) == learning_rate(each, lengths[1], other)
        and next_token_weight(each, lengths[0], distill) == next_token_weight(each, lengths[1], distill)
        for each in range(step)
    )


def validation_windows(steps: int, windows_per_batch: int) -> int:
    """How many windows each validation reads. A window of it, forward only, is a third of one of training's work."""
    fewest, most = VALIDATION_WINDOWS
    return max(fewest, min(most, int(VALIDATION_SHARE * TRAINING_PASSES * steps * windows_per_batch / VALIDATIONS)))
