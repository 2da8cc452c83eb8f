"""What training watches for: losses and gradients that are not finite, and losses that jump.

- An update whose loss or gradient is not finite is left out, and counted. Several in a row are trouble, and so is a
  validation loss that is not finite: training goes back to the last checkpoint by steps and passes over the data from
  there to the trouble, as PaLM's did (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1). If that does not help, it
  stops and says what was in the batch.
- A loss far above its running mean is a spike; the documents of its batch are written down.

All of it is a function of the steps so far, so that a run that was interrupted decides as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gemmule.recipe import Train

IN_A_ROW = 3  # updates left out, one after the other, that are trouble
RECOVERED = 100  # steps after which trouble is new trouble
SPIKE = 6.0  # standard deviations above the mean
MEMORY = 0.98  # of the running mean: about 50 steps
WARMED_UP = 50  # losses before any is called a spike


@dataclass(frozen=True)
class LossHistory:
    """Running mean and variance of the loss, by exponential weights."""

    mean: float = 0.0
    variance: float = 0.0
    count: int = 0

    def add(self, loss: float) -> LossHistory:
        memory = min(MEMORY, self.count / (self.count + 1))  # a plain mean at first
        off = loss - self.mean
        mean = self.mean + (1 - memory) * off
        return LossHistory(mean, memory * (self.variance + (1 - memory) * off * off), self.count + 1)

    def is_spike(self, loss: float) -> bool:
        return self.count >= WARMED_UP and loss > self.mean + SPIKE * math.sqrt(self.variance)


@dataclass(frozen=True)
class PassedOver:
    """Steps `first` to `last` whose data is skipped, and why."""

    first: int
    last: int
    reason: str

    def __contains__(self, step: int) -> bool:
        return self.first <= step <= self.last


class Trouble(Exception):
    """At `step` (from 0) several updates in a row had no finite loss or gradient, or weights have no finite loss."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step, self.reason = step, reason


@dataclass(frozen=True)
class State:
    """Where training stands after `step` steps: tokens learned from, seconds spent, updates made, what went wrong."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    updates: int = 0  # fewer than the steps, where some were left out
    left_out: int = 0  # in a row, up to now
    losses: LossHistory = LossHistory()
    passed_over: tuple[PassedOver, ...] = ()
    validation_loss: float | None = None  # of these weights, if it was measured

    def why_passed_over(self) -> str | None:
        """Why the next step's data is not to be learned from, if it is not."""
        return next((entry.reason for entry in self.passed_over if self.step in entry), None)

    def go_on_after(self, trouble: Trouble) -> State | None:
        """This state, of the checkpoint before the trouble, with its data passed over; None: that did not help."""
        if self.passed_over and trouble.step <= self.passed_over[-1].last + RECOVERED:
            return None
        entry = PassedOver(self.step, trouble.step, trouble.reason)
        return replace(self, passed_over=(*self.passed_over, entry))


def advice(name: str, train: Train) -> str:
    """What to try where a model's losses or weights do not stay finite."""
    key = f"models.{name}.train"
    if train.weight_decay > max(1.0, 1 / train.learning_rate):
        return f"Each step multiplies weights by 1 - learning_rate * weight_decay: try a lower {key}.weight_decay"
    return f"Try a lower {key}.learning_rate"
