"""The optimizer, and its state as plain tensors.

- AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), with decay on matrices only: norms are scales, not directions.
- Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982) for the matrices inside the layers, AdamW for the table
  of tokens and the norms. Its updates are scaled to the size of AdamW's, so that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from gemmule.recipe import Train


class AdamW:
    """`torch.optim.AdamW(groups, fused=True)` to the bit, by PyTorch's functional form of it.

    The class imports the whole compiler, which takes more than a second of every start.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        self.param_groups = [{"lr": lr, **group} for group in groups]
        self.betas = betas
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {
                        "step": torch.zeros((), device=weight.device),
                        "exp_avg": torch.zeros_like(weight),
                        "exp_avg_sq": torch.zeros_like(weight),
                    }
            averages, squares, steps = (
                [self.state[weight][key] for weight in weights] for key in ("exp_avg", "exp_avg_sq", "step")
            )
            adamw(
                weights, [weight.grad for weight in weights], averages, squares, [], steps, fused=True, amsgrad=False,
                beta1=self.betas[0], beta2=self.betas[1], lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8,
                maximize=False,
            )  # fmt: skip


class Muon:
    """`torch.optim.Muon` as it adjusts rates for AdamW's, but for the type of its iteration on a CPU: float32.

    In bfloat16 a sum in another order changes an update by a thousandth, so that processes, which share the work, would
    end elsewhere than one; and a CPU takes three times as long for it.
    """

    def __init__(self, params: Sequence[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": params, "lr": lr, "weight_decay": weight_decay}]
        self.momentum = momentum
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            decay = group["lr"] * group["weight_decay"]
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                state["momentum_buffer"].lerp_(weight.grad, 1 - self.momentum)
                update = orthogonal(weight.grad.lerp(state["momentum_buffer"], self.momentum))  # Nesterov's
                rate = group["lr"] * 0.2 * math.sqrt(max(weight.shape))  # an update as large as AdamW's
                weight.mul_(1 - decay).add_(update.to(weight.dtype), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """Five steps of a quintic Newton-Schulz iteration: singular values go to about 1 (0.7 to 1.2).

    In float32 on a CPU, else in bfloat16 (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).
    """
    turned = matrix.shape[0] > matrix.shape[1]
    x = matrix.float() if matrix.device.type == "cpu" else matrix.bfloat16()
    x = x.T if turned else x
    x = x / x.norm().clamp(min=1e-7)  # so that no singular value is above 1
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if turned else x


MOMENTS = {AdamW: ("exp_avg", "exp_avg_sq"), Muon: ("momentum_buffer",)}


class Optimizer:
    """One or two, each with its share of a model's parameters."""

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
        self.parts: list[AdamW | Muon] = [AdamW(groups, rate, betas)]
        if by_muon:
            self.parts.append(Muon(by_muon, lr=rate, weight_decay=train.weight_decay, momentum=train.betas[1]))

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

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
            if isinstance(part, AdamW):
                part.state[weight]["step"] = torch.tensor(float(steps), device=weight.device)

    def _parameters(self) -> Iterator[tuple[str, AdamW | Muon, Tensor]]:
        names = {id(weight): name for name, weight in self._names.items()}
        for part in self.parts:
            for group in part.param_groups:
                for weight in group["params"]:
                    yield names[id(weight)], part, weight
