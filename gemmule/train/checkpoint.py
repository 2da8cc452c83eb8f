"""Checkpoints: all that training needs to resume, as artifacts named by step.

Batches, learning rate and draws are functions of the step, so the weights, the optimizer's moments and a few numbers
are the whole state. They are copied at once and written by a thread while training continues; of several processes each
writes its shards, while training waits. One that does not verify is set aside and the one before it used.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemmule.base import artifact, ranks
from gemmule.base.artifact import Artifact, Settings
from gemmule.base.errors import WorkError
from gemmule.base.progress import running_seconds, say
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train import pace, parallel
from gemmule.train.guards import LossHistory, PassedOver, State, advice
from gemmule.train.optimizer import Optimizer
from gemmule.train.pace import Pace, found

KIND = "checkpoint"
STATE, MOMENTS = "state.json", "optimizer.safetensors"


class Checkpoints:
    """The checkpoints of one model's training in a folder: `step-00000500` and so on; `pace` says when to save one."""

    def __init__(
        self,
        folder: Path,
        train: Train,
        settings: Settings,
        inputs: Mapping[str, Artifact],
        name: str,
        stem: int | None = None,
    ) -> None:
        """`name` is the model's; `stem` a step whose checkpoint is kept for good."""
        self.stem = stem
        self.name, self.folder, self.train, self.settings, self.inputs = name, folder, train, settings, inputs
        self.pace = Pace(name, train)
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, model: Gemma2, optimizer: Optimizer, state: State) -> None:
        """Copies all that is to be saved, and begins to write it. Does nothing if this step's is there already.

        Raises WorkError if the one before could not be written, or if a value is not finite.
        """
        began = running_seconds()
        self.finish()
        path = pace.path_of(self.folder, state.step)
        if parallel.agree(path.is_dir()):
            return
        parameters, moments = _copies(model.state_dict()), _copies(optimizer.state())
        shards = parallel.local(parameters | moments)
        if name := parallel.first(next((name for name, shard in shards.items() if not shard.isfinite().all()), None)):
            raise WorkError(
                f"{self.name}: step {state.step}: {name} is not finite; such a checkpoint is not written. "
                + advice(self.name, self.train)
            )
        if ranks.size() > 1:
            self._write_shards(path, model, parameters | moments, state)
            self.pace.saved(began)
        else:
            self.pace.saved(began)
            self._writing = self._writer.submit(self._write, path, model, parameters, moments, state)

    def is_due(self, step: int, step_seconds: float) -> bool:
        """Whether to save after `step`, beside what the recipe asks for; rank 0 decides."""
        idle = self._writing is None or self._writing.done()
        due = self.pace.is_due(step, step_seconds, idle) and ranks.rank() == 0
        return parallel.add_up(float(due))[0] > 0  # at every step: a quarter of the time of sending it

    def finish(self) -> None:
        """Waits until what was begun is written. Raises WorkError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits, and ends the writing thread."""
        try:
            self.finish()
        finally:
            self._writer.shutdown()

    def _write(
        self, path: Path, model: Gemma2, parameters: dict[str, Tensor], moments: dict[str, Tensor], state: State
    ) -> None:
        began, worked = running_seconds(), time.thread_time()
        with artifact.publish(path, KIND, settings=self.settings, inputs=self.inputs) as temporary:
            weights.write(weights.in_memory(model.config, parameters), temporary)
            try:
                save_file(moments, temporary / MOMENTS)
            except SafetensorError as error:  # how it reports a full disk
                raise WorkError(f"{path}: can't be written: {error}") from error
            artifact.write_json(temporary / STATE, asdict(state))
        self._drop_old()
        self.pace.written(running_seconds() - began, time.thread_time() - worked)

    def _write_shards(self, path: Path, model: Gemma2, tensors: dict[str, Tensor], state: State) -> None:
        """All ranks write, each its shards; rank 0 publishes."""
        publishing = artifact.publish(path, KIND, settings=self.settings, inputs=self.inputs)
        with publishing if ranks.rank() == 0 else nullcontext(path) as temporary:
            folder = parallel.agree(temporary)
            parallel.write(tensors, folder)
            if ranks.rank() == 0:
                artifact.write_json(folder / weights.CONFIG, model.config.to_huggingface())
                artifact.write_json(folder / STATE, asdict(state))
        if ranks.rank() == 0:
            self._drop_old()
        parallel.agree("published")  # no rank goes on before

    def _drop_old(self) -> None:
        """Keeps the newest ones, the newest by steps, the stem, every so many steps one, and the best."""
        there = found(self.folder)
        kept = set(there[-self.train.keep_last :]) | set(self._by_steps(there)[-1:])
        kept |= {path for path in there if pace.step_of(path) == self.stem}
        if self.train.keep_every is not None:
            kept |= {path for path in there if pace.step_of(path) % self.train.keep_every == 0}
        if self.train.keep_best:
            losses = {path: loss for path in there if (loss := read_state(path).validation_loss) is not None}
            kept |= {min(losses, key=lambda path: losses[path])} if losses else set()
        for old in there:
            if old not in kept:
                pace.drop(old)

    def _by_steps(self, paths: list[Path]) -> list[Path]:
        return [path for path in paths if pace.is_by_steps(pace.step_of(path), self.train)]

    def newest(self, by_steps: bool = False) -> Artifact | None:
        """The newest checkpoint (by steps, if asked for) that verifies; rank 0 looks for all.

        Damaged ones are set aside as `damaged/step-...`, and it is said.
        """
        path = parallel.agree(self._newest(by_steps) if ranks.rank() == 0 else None)
        return None if path is None else artifact.read(path)

    def _newest(self, by_steps: bool) -> Path | None:
        for left in pace.remains(self.folder):
            shutil.rmtree(left)
        there = found(self.folder)
        for path in reversed(self._by_steps(there) if by_steps else there):
            try:
                checkpoint = artifact.read(path)
                artifact.verify(checkpoint)
            except WorkError as error:
                aside = artifact.retire(path, self.folder / "damaged")
                say(f"{error}. Set aside as {aside}")
                continue
            return path
        return None

    def drop_after(self, step: int) -> None:
        """Drops the checkpoints after `step`: training goes another way from there."""
        if ranks.rank() == 0:
            pace.drop_after(self.folder, step)
        parallel.agree("dropped")


def load(checkpoint: Artifact, model: Gemma2, optimizer: Optimizer) -> State:
    """Puts a checkpoint's weights and moments in place, by however many processes it was written."""
    state = read_state(checkpoint.path)
    if ranks.size() == 1 and (checkpoint / MOMENTS).exists():
        model.load_state_dict(weights.load(checkpoint.path).state_dict())
        optimizer.load_state(load_file(checkpoint / MOMENTS), state.updates)
        return state
    moments = optimizer.empty_state()
    parallel.read(dict(model.state_dict()) | moments, checkpoint.path)
    optimizer.load_state(moments, state.updates)
    return state


def read_state(path: Path) -> State:
    """Where training stood at a checkpoint."""
    values: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    values.setdefault("updates", values["step"])  # before any could be left out
    values["losses"] = LossHistory(**values.get("losses", {}))
    values["passed_over"] = tuple(PassedOver(**entry) for entry in values.get("passed_over", ()))
    return State(**values)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
