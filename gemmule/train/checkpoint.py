"""Checkpoints: all that training needs to go on, as artifacts named by step.

Batches, learning rate and draws are functions of the step, so the weights, the optimizer's moments and three numbers
are the whole state. The newest checkpoints are kept; one that does not verify is set aside and the one before it used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gemmule import artifact, ranks
from gemmule.artifact import Artifact, Settings
from gemmule.errors import WorkError
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.progress import say
from gemmule.train import parallel
from gemmule.train.optimizer import MOMENTS, load_state_tensors, state_tensors

KIND = "checkpoint"
KEPT = 2


@dataclass(frozen=True)
class State:
    """Where training stands: steps done, tokens learned from, seconds spent."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def save(
    folder: Path,
    model: Gemma2,
    optimizer: torch.optim.AdamW,
    state: State,
    settings: Settings,
    inputs: Mapping[str, Artifact],
) -> None:
    """Publishes `folder/step-00000500` and drops all but the newest ones. Does nothing if it is there already."""
    path = folder / f"step-{state.step:08d}"
    if parallel.agree(path.exists()):
        return
    if ranks.size() > 1:
        _save_together(path, model, optimizer, state, settings, inputs)
        if ranks.rank() == 0:
            _thin_out(folder)
        return
    with artifact.publish(path, KIND, settings=settings, inputs=inputs) as temporary:
        weights.save(model, temporary)
        try:
            save_file(state_tensors(model, optimizer), temporary / "optimizer.safetensors")
        except SafetensorError as error:  # how it reports a full disk
            raise WorkError(f"{path}: can't be written: {error}") from error
        artifact.write_json(temporary / "state.json", asdict(state))
    _thin_out(folder)


def _save_together(
    path: Path,
    model: Gemma2,
    optimizer: torch.optim.AdamW,
    state: State,
    settings: Settings,
    inputs: Mapping[str, Artifact],
) -> None:
    """All ranks write, each its pieces; rank 0 publishes."""
    publishing = artifact.publish(path, KIND, settings=settings, inputs=inputs)
    with publishing if ranks.rank() == 0 else nullcontext(path) as temporary:
        folder = parallel.agree(temporary)
        parallel.write(dict(model.state_dict()) | state_tensors(model, optimizer), folder)
        if ranks.rank() == 0:
            artifact.write_json(folder / weights.CONFIG, model.config.to_huggingface())
            artifact.write_json(folder / "state.json", asdict(state))


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _thin_out(folder: Path) -> None:
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old)


def newest(folder: Path) -> Artifact | None:
    """The newest checkpoint that verifies; damaged ones are set aside as `damaged-step-...`, and it is said.

    Rank 0 looks for all.
    """
    path = parallel.agree(_newest(folder) if ranks.rank() == 0 else None)
    return None if path is None else artifact.read(path)


def _newest(folder: Path) -> Path | None:
    for path in reversed(found(folder)):
        try:
            checkpoint = artifact.read(path)
            artifact.verify(checkpoint)
        except WorkError as error:
            aside = artifact.retire(path, folder / "damaged")
            say(f"{error}. Set aside as {aside}")
            continue
        return path
    return None


def load(checkpoint: Artifact, model: Gemma2, optimizer: torch.optim.AdamW) -> State:
    """Puts a checkpoint's weights and moments in place."""
    state = State(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    if ranks.size() == 1 and (checkpoint / weights.WEIGHTS).exists():
        model.load_state_dict(weights.load(checkpoint.path).state_dict())
        load_state_tensors(model, optimizer, load_file(checkpoint / "optimizer.safetensors"), state.step)
        return state
    tensors = dict(model.state_dict())
    tensors |= {
        f"{moment}.{name}": torch.zeros_like(parameter)
        for name, parameter in model.named_parameters()
        for moment in MOMENTS
    }
    parallel.read(tensors, checkpoint.path)
    load_state_tensors(model, optimizer, tensors, state.step)
    return state
