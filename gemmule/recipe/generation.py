"""What may be asked of generating: each setting's range, checked once for the command line, the API and the recipe.

Nothing here imports torch: what is impossible is refused before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real

from gemmule.base.errors import RequestError, shown

NEW_TOKENS = 1, 2**20
TEMPERATURE = 1e-4, 1e4  # and 0; below, the likeliest token is all that is drawn, and numbers overflow
TOP_K = 1, 2**31 - 1
REPETITION_PENALTY = 0.01, 100.0
SEEDS = 0, 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Raises RequestError for an impossible setting.

    `temperature` divides the logits; 0 takes the likeliest token. `top_k` keeps that many likeliest tokens, `top_p`
    the fewest likeliest whose probability reaches it, `min_p` those at least that times as likely as the likeliest.
    `repetition_penalty` above 1 makes tokens that the prompt or the text has less likely. `seed` is of the draws.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            check(field.name, getattr(self, field.name))


def check(name: str, value: object, shown_as: str = "") -> None:
    """Raises RequestError naming the setting (as `shown_as`), its value and what is allowed."""
    allowed, holds, kind = _RULES[name]
    if value is None and name in ("top_k", "top_p", "min_p"):
        return
    if isinstance(value, bool) or not isinstance(value, kind) or not holds(value):
        raise RequestError(f"{shown_as or name} = {shown(repr(value), 60)}: must be {allowed}")


def option(name: str) -> str:
    """What a setting is called on the command line."""
    return "--" + name.replace("_", "-")


def _between(least: float, most: float) -> Callable[[float], bool]:
    return lambda value: least <= value <= most


_RULES: dict[str, tuple[str, Callable[..., bool], type]] = {
    "max_new_tokens": (f"a whole number from 1 to {NEW_TOKENS[1]:,}", _between(*NEW_TOKENS), Integral),
    "temperature": (
        f"0, or a number from {TEMPERATURE[0]:g} to {TEMPERATURE[1]:,g}",
        lambda value: value == 0 or TEMPERATURE[0] <= value <= TEMPERATURE[1],
        Real,
    ),
    "top_k": (f"a whole number from 1 to {TOP_K[1]:,}", _between(*TOP_K), Integral),
    "top_p": ("a number above 0 and at most 1", lambda value: 0 < value <= 1, Real),
    "min_p": ("a number from 0 to 1", _between(0, 1), Real),
    "repetition_penalty": (
        f"a number from {REPETITION_PENALTY[0]:g} to {REPETITION_PENALTY[1]:g}",
        _between(*REPETITION_PENALTY),
        Real,
    ),
    "seed": ("a whole number from 0 to 2^63 - 1", _between(*SEEDS), Integral),
}
