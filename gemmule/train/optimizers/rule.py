"""What an optimizer is, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gemmule.recipe import Train

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class Weight:
    """A parameter of a model, and what its optimizer keeps of it."""

    name: str
    value: Tensor  # with its gradient
    decay: float  # of an update at a rate of 1
    rate_factor: float = 1.0  # times the model's learning rate: its own
    moments: dict[str, Tensor] = field(default_factory=dict)  # by name, of the value's shape; empty before any update
    updates: int = 0  # that it had

    @property
    def gradient(self) -> Tensor:
        assert self.value.grad is not None
        return self.value.grad


class Rule(Protocol):
    """What the file of an optimizer has."""

    @property
    def MOMENTS(self) -> tuple[str, ...]:
        """The names of what it keeps of a weight: tensors of its shape, zero at first."""

    def takes(self, name: str, shape: Sequence[int]) -> bool:
        """Whether it updates this parameter. What it leaves is AdamW's."""

    def update(self, weights: Sequence[Weight], train: Train, rate: float) -> None:
        """One update of these weights and of their moments, in place, at the learning rate `rate`."""
