"""Checkpoints: all that training needs to go on, as artifacts named by step.

Batches, learning rate and draws are functions of the step, so the weights, the optimizer's moments and three numbers
are the whole state. The newest checkpoints are kept; one that does not verify is set aside and the one before it used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gemmule import artifact
from gemmule.artifact import Artifact, Settings
from gemmule.errors import WorkError
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.progress import say
from gemmule.train.optimizer import load_state_tensors, state_tensors

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
    if path.exists():
        return
    with artifact.publish(path, KIND, settings=settings, inputs=inputs) as temporary:
        weights.save(model, temporary)
        try:
            save_file(state_tensors(model, optimizer), temporary / "optimizer.safetensors")
        except SafetensorError as error:  # how it reports a full disk
            raise WorkError(f"{path}: can't be written: {error}") from error
        artifact.write_json(temporary / "state.json", asdict(state))
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest(folder: Path) -> Artifact | None:
    """The newest checkpoint that verifies; damaged ones are set aside as `damaged-step-...`, and it is said."""
    for path in reversed(found(folder)):
        try:
            checkpoint = artifact.read(path)
            artifact.verify(checkpoint)
        except WorkError as error:
            aside = artifact.retire(path, folder / "damaged")
            say(f"{error}. Set aside as {aside}")
            continue
        return checkpoint
    return None


def load(checkpoint: Artifact, model: Gemma2, optimizer: torch.optim.AdamW) -> State:
    """Puts a checkpoint's weights and moments in place."""
    state = State(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    model.load_state_dict(weights.load(checkpoint.path).state_dict())
    load_state_tensors(model, optimizer, load_file(checkpoint / "optimizer.safetensors"), state.step)
    return state
