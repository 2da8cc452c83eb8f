"""The optimizers: one file each, called as in `train.optimizer`.

Such a file has what `rule.Rule` lists. It imports torch inside `update` alone, if it must: an estimate, which asks for
the moments, is made without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from gemmule.recipe import Train
from gemmule.train.optimizers import adamw
from gemmule.train.optimizers.rule import Rule


def rule_of(name: str, shape: Sequence[int], train: Train) -> Rule:
    """The optimizer of a parameter."""
    chosen = cast(Rule, import_module(f"{__name__}.{train.optimizer}"))
    if chosen.takes(name, shape):
        return chosen
    return adamw
