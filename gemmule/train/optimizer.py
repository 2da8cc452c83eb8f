"""A model's updates: each parameter by its optimizer (`optimizers/`), and their state as plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gemmule.recipe import Train
from gemmule.train.optimizers import rule_of
from gemmule.train.optimizers.rule import Rule, Weight


class Optimizer:
    """All parameters of a model. Matrices decay and norms do not: these are scales, not directions."""

    def __init__(self, model: nn.Module, train: Train) -> None:
        self.train = train
        self.parts: dict[Rule, list[Weight]] = {}
        for name, parameter in model.named_parameters():
            decay = train.weight_decay if parameter.dim() >= 2 else 0.0
            factor = train.embedding_learning_rate_factor if "embed_tokens" in name else 1.0
            weight = Weight(name, parameter, decay, factor)
            self.parts.setdefault(rule_of(name, parameter.shape, train), []).append(weight)

    def zero_grad(self) -> None:
        for _, weight in self._weights():
            weight.value.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update, at this rate, of every parameter that has a gradient; of the embedding at its own multiple."""
        for rule, weights in self.parts.items():
            moved = [weight for weight in weights if weight.value.grad is not None]
            for weight in moved:
                weight.moments = weight.moments or _zeros(rule, weight)
            rule.update(moved, self.train, learning_rate)
            for weight in moved:
                weight.updates += 1

    def state(self) -> dict[str, Tensor]:
        """The moments by parameter name, as "exp_avg.model.norm.weight". Empty before the first step."""
        return {
            f"{key}.{weight.name}": moment for _, weight in self._weights() for key, moment in weight.moments.items()
        }

    def empty_state(self) -> dict[str, Tensor]:
        """Zeros in the names and shapes of `state` after a step, to be filled."""
        return {
            f"{key}.{weight.name}": moment
            for rule, weight in self._weights()
            for key, moment in _zeros(rule, weight).items()
        }

    def load_state(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Undoes `state`, after so many updates."""
        for rule, weight in self._weights():
            weight.moments = {key: tensors[f"{key}.{weight.name}"].to(weight.value.device) for key in rule.MOMENTS}
            weight.updates = updates

    def _weights(self) -> Iterator[tuple[Rule, Weight]]:
        for rule, weights in self.parts.items():
            for weight in weights:
                yield rule, weight


def _zeros(rule: Rule, weight: Weight) -> dict[str, Tensor]:
    return {key: torch.zeros_like(weight.value, requires_grad=False) for key in rule.MOMENTS}
