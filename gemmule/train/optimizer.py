"""The optimizer, and its state as plain tensors.

- AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), with decay on matrices only: norms are scales, not directions.
- Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982) for the matrices inside the layers, AdamW for the table
  of tokens and the norms. Its updates are scaled to the size of AdamW's, so that one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gemmule.recipe import Train

MOMENTS = {torch.optim.AdamW: ("exp_avg", "exp_avg_sq"), torch.optim.Muon: ("momentum_buffer",)}


class Optimizer:
    """One or two of PyTorch's own, each with its share of a model's parameters."""

    def __init__(self, model: nn.Module, train: Train) -> None:
        self._names = dict(model.named_parameters())
        matrices = [(name, weight) for name, weight in self._names.items() if weight.dim() >= 2]
        by_muon = [weight for name, weight in matrices if train.optimizer == "muon" and ".layers." in name]
        taken = {id(weight) for weight in by_muon}
        decayed = [weight for _, weight in matrices if id(weight) not in taken]
        norms = [weight for weight in self._names.values() if weight.dim() < 2]
        groups = [
            {"params": decayed, "weight_decay": train.weight_decay},
            {"params": norms, "weight_decay": 0.0},
        ]
        rate, betas = train.learning_rate, (train.betas[0], train.betas[1])
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)]
        if by_muon:
            self.parts.append(
                torch.optim.Muon(
                    by_muon,
                    lr=rate,
                    weight_decay=train.weight_decay,
                    momentum=train.betas[1],
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """One update of every parameter at this rate."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def state(self) -> dict[str, Tensor]:
        """The moments by parameter name, as "exp_avg.model.norm.weight". Empty before the first step."""
        return {
            f"{moment}.{name}": part.state[weight][moment]
            for name, part, weight in self._parameters()
            for moment in sorted(part.state.get(weight, {}))
            if moment != "step"  # a number, and the same for all
        }

    def empty_state(self) -> dict[str, Tensor]:
        """Zeros in the names and shapes of `state` after a step, to be filled."""
        return {
            f"{moment}.{name}": torch.zeros_like(weight, requires_grad=False)
            for name, part, weight in self._parameters()
            for moment in MOMENTS[type(part)]
        }

    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Undoes `state`, after `steps` updates."""
        moments: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            moment, _, name = key.partition(".")
            moments.setdefault(name, {})[moment] = tensor
        for name, part, weight in self._parameters():
            part.state[weight] = {moment: tensor.to(weight.device) for moment, tensor in moments[name].items()}
            if isinstance(part, torch.optim.AdamW):
                part.state[weight]["step"] = torch.tensor(float(steps), device=weight.device)

    def _parameters(self) -> Iterator[tuple[str, torch.optim.Optimizer, Tensor]]:
        names = {id(weight): name for name, weight in self._names.items()}
        for part in self.parts:
            for group in part.param_groups:
                for weight in group["params"]:
                    yield names[id(weight)], part, weight
