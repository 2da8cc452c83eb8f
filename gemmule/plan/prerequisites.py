"""What the steps of a run that are left need of this machine: extras and a device, checked before any of them is made.

A teacher that can't be loaded is found here, and not after an hour of documents and tokens. Extras are looked for and
not imported; torch is imported only where the recipe names a device.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from gemmule.base import addresses, signals
from gemmule.base.errors import GemmuleError, RequestError
from gemmule.base.hub import find_folder
from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.outside import OutsideStep
from gemmule.teach.teachers import outside

# Of each kind of outside model: the extras to install, and the modules that these bring.
EXTRAS: dict[outside.Kind, tuple[str, tuple[str, ...]]] = {
    "gemma2": ("", ()),
    "served": ("served", ("httpx2",)),
    "huggingface": ("huggingface", ("transformers",)),
    "gguf": ("gguf,huggingface", ("gguf", "accelerate", "transformers")),
}
OWN_GGUF: tuple[str, tuple[str, ...]] = ("gguf", ("gguf",))  # a Gemma 2 that gemmule wrote: read without transformers
HEADER = 2**16  # bytes of a GGUF file in which it is said who wrote it


def check(steps: Iterable[Step], plan: Plan) -> None:
    """Raises RequestError naming an extra or a device that the making of `steps` needs and this machine lacks."""
    steps = list(steps)
    taken = plan.tokenizer.origin
    if plan.tokenizer in steps and taken is not None and Path(taken.place).is_file():
        check_extras(taken.place, "gguf")
    asked = {step for made in steps for step in (made, *made.inputs.values())}
    for step in plan.of(OutsideStep):
        if step in asked and (kind := _kind(step)) is not None:
            check_extras(step.origin.place, kind)
    if plan.recipe.machine.device != "auto" and any(step.computes for step in steps):
        with signals.deferred():
            from gemmule.base.device import choose_device  # imports torch

        try:
            choose_device(plan.recipe.machine.device)
        except RequestError as error:
            raise RequestError(f"machine.{error}") from None


def check_extras(source: str | Path, kind: outside.Kind) -> None:
    """Raises RequestError naming the extra that a model of this kind needs and that is not installed."""
    extras, modules = OWN_GGUF if kind == "gguf" and _is_own(Path(source)) else EXTRAS[kind]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise RequestError(f"{source}: needs {' and '.join(missing)}: pip install 'gemmule[{extras}]'")


def _kind(step: OutsideStep) -> outside.Kind | None:
    """Of a step that is made what it recorded; else what its source is, None where that can't be told.

    Raises RequestError for a hub id whose config.json can't be had: it is fetched first, before any work.
    """
    if step.path.exists():
        kind: outside.Kind = step.record()["kind"]
        return kind
    source = step.origin.place
    if not addresses.is_url(source) and not Path(source).exists():
        source = find_folder(source, ("config.json",))
    try:
        return outside.kind_of(source)
    except GemmuleError:
        return None  # said by the step, in its own words


def _is_own(file: Path) -> bool:
    with file.open("rb") as start:
        return re.search(rb"gemmule\.query_scale", start.read(HEADER)) is not None
