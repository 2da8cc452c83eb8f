"""AdamW with decay on matrices only (Loshchilov and Hutter 2019, arXiv 1711.05101), and its state as plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gemmule.recipe import Train

MOMENTS = ("exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """Norms are not decayed: they are scales, not directions."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(train.betas[0], train.betas[1]), fused=True)


def state_tensors(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The moments by parameter name, as "exp_avg.model.norm.weight". Empty before the first step."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in MOMENTS
        if parameter in optimizer.state
    }


def load_state_tensors(model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, Tensor], step: int) -> None:
    """Undoes `state_tensors`, after `step` steps."""
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step), device=parameter.device),
            **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS},
        }
