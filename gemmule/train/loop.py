"""The training loop: batches in, gradients of the mean over the unmasked tokens, an update, a checkpoint now and then.

The target of each token is one of three: the next token itself, a live teacher's distribution, or that teacher's cached
targets; a share of the next-token loss may be mixed in. Everything that happens at a step is a
function of the step, so interrupted training resumes as if it had not been interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from gemmule.base import ranks
from gemmule.base.artifact import write_json
from gemmule.base.device import choose_device
from gemmule.base.errors import WorkError
from gemmule.base.progress import Meter, running_seconds, say
from gemmule.base.signals import Stop
from gemmule.model import weights
from gemmule.model.cut import cut, measure_importance
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.tokenize.windows import Batch, Windows
from gemmule.train import checkpoint, metrics, pace, parallel
from gemmule.train.checkpoint import Checkpoints
from gemmule.train.guards import IN_A_ROW, PassedOver, State, Trouble, advice
from gemmule.train.job import Job
from gemmule.train.memory import lower_precision, recompute_activations
from gemmule.train.metrics import MetricsLog
from gemmule.train.objective import accumulate, make_signal, make_weights
from gemmule.train.optimizer import Optimizer
from gemmule.train.reading import ReadAhead, batch_reader
from gemmule.train.schedule import VALIDATION_WINDOWS, VALIDATIONS, learning_rate, next_token_weight, validation_windows
from gemmule.train.stopping import stop_flag
from gemmule.train.tracking import start_tracking

IMPORTANCE_TOKENS = 8192  # on which it is measured what a model can do without
VALIDATED_AT_ONCE = 2048  # tokens


def train(job: Job) -> Gemma2:
    """Trains the job's model from its newest checkpoint, or from the start, to the end.

    Ctrl-C, SIGTERM and SIGHUP finish the step, save a checkpoint and raise KeyboardInterrupt, Terminated or HungUp; a
    second one stops at once.

    Raises WorkError naming the step if losses or gradients stop being finite, and leaving out data does not help.
    """
    passed_over: tuple[PassedOver, ...] = ()
    while True:
        trainer = Trainer(job, passed_over)
        try:
            with parallel.all_present():
                trainer.run()
                return parallel.gather(trainer.model).eval()
        except Trouble as trouble:
            passed_over = trainer.recover(trouble)
        del trainer  # before there is another


class Trainer:
    """A model in training: its weights, its optimizer, and where it stands."""

    def __init__(self, job: Job, passed_over: tuple[PassedOver, ...] = ()) -> None:
        """Resumes from the newest checkpoint, if there is one; `passed_over`: data to leave out beside its own."""
        self.job = job
        self.device = choose_device(job.machine.device)
        parallel.join(self.device)
        self.checkpoints = Checkpoints(
            job.folder / "checkpoints", job.train, job.settings, job.inputs, job.name, pace.stem(job.steps, job.train)
        )
        last = self.checkpoints.newest()
        initial = partial(_initial_model, job, self.device) if last is None else None
        self.model = parallel.place(job.config, self.device, initial).train()
        self.optimizer = Optimizer(self.model, job.train)
        self.state = checkpoint.load(last, self.model, self.optimizer) if last is not None else State()
        self.state = replace(self.state, passed_over=passed_over or self.state.passed_over)
        self.validated: float | None = None  # the last validation loss
        if self.state.step:
            say(f"{job.name}: resuming from step {self.state.step} of {job.steps}")
        self.precision = lower_precision(job.machine.precision, self.device)
        if job.train.recompute_activations:
            recompute_activations(self.model)
        if self.state.step < job.steps:
            self.targets_of, self.weights_of = make_signal(job, self.device), make_weights(job)
            compiling.prepare(self.model, job.machine.compile)
        self.batch_of = ReadAhead(batch_reader(job), job.steps)

    def run(self) -> None:
        """Trains to the end. Raises Trouble, and what `train` says."""
        job = self.job
        log = self._open_log() if ranks.rank() == 0 else None
        write = log.write if log is not None else lambda line: None
        meter = Meter(job.name, job.steps, done=self.state.step, counted=self.state.tokens)
        try:
            with stop_flag() as stopping, self.batch_of, meter:
                while self.state.step < job.steps:
                    began = running_seconds()
                    record = self.advance()
                    meter.update(self.state.step, self._describe(record), self.state.tokens)
                    write(record | {"tokens_per_second": round(meter.speed, 1)})
                    self._keep(began, write)
                    if stop := parallel.first(stopping()):
                        self._stop(stop)
        finally:
            try:
                if log is not None:
                    log.close()
            finally:
                self.checkpoints.close()

    def _describe(self, record: dict[str, Any]) -> str:
        """A step's record, for the line that shows progress."""
        if "loss" not in record:
            return "left out"
        validated = "" if self.validated is None else f"  validation {metrics.NEXT_TOKEN} {self.validated:.3f}"
        return f"{self.job.objective} {record['loss']:.3f}{validated}"

    def _keep(self, began: float, write: Callable[[dict[str, Any]], None]) -> None:
        """Validates and saves after a step that began then, where that is due. Raises Trouble for a bad validation."""
        step, train = self.state.step, self.job.train
        asked = pace.is_asked_for(step, self.job.steps, train)
        if self._validates_now() or (train.keep_best and asked):
            asked = asked or train.keep_best
            record = self._validate()
            write(record)
            self.validated = record["validation_loss"]
            if self.validated is None:
                raise Trouble(step - 1, "the validation loss is not finite")
        if self.checkpoints.is_due(step, running_seconds() - began) or asked:
            self._save()

    def _open_log(self) -> MetricsLog:
        tracker = start_tracking(self.job.machine.track, self.job.folder, self.job.settings)
        return MetricsLog(self.job.folder, self.state.step, tracker, self.job.objective)

    def advance(self) -> dict[str, Any]:
        """One step. Gives what metrics.jsonl has of it. Raises Trouble if it is the last of several left out."""
        started, state = running_seconds(), self.state
        if (reason := state.why_passed_over()) is not None:
            record: dict[str, Any] = {"passed_over": reason}
        else:
            state, record = self._learn(state)
        seconds = state.seconds + running_seconds() - started
        self.state = replace(state, step=state.step + 1, seconds=seconds, validation_loss=None)
        place = {"step": self.state.step, "tokens": self.state.tokens, "seconds": round(self.state.seconds, 3)}
        return place | record

    def _learn(self, state: State) -> tuple[State, dict[str, Any]]:
        """An update, if there is something to learn and its gradient is finite."""
        batch = self.batch_of(state.step)
        learned, damaged = map(int, parallel.add_up(float(batch.mask.sum()), float(batch.damaged)))
        record: dict[str, Any] = {"damaged_windows": damaged} if damaged else {}
        if not learned:  # all of it is damaged
            return state, record
        loss, norm = self._gradients(batch)
        if not math.isfinite(loss) or not math.isfinite(norm):
            reason = f"the loss is {loss} and the gradient's norm {norm}"
            if state.left_out + 1 == IN_A_ROW:
                raise Trouble(state.step, f"{reason}; {IN_A_ROW} updates in a row left out")
            record |= {"left_out": reason, "documents": self._documents()}
            return replace(state, left_out=state.left_out + 1), record
        rate = learning_rate(state.step, self.job.steps, self.job.train)
        self.optimizer.step(rate)
        record |= {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
        if state.losses.is_spike(loss):
            record["spike_in_documents"] = self._documents()
        losses, tokens = state.losses.add(loss), state.tokens + learned
        return replace(state, tokens=tokens, updates=state.updates + 1, left_out=0, losses=losses), record

    def _gradients(self, batch: Batch) -> tuple[float, float]:
        """Fills the gradients, clipped. Gives the loss and their norm before clipping."""
        job = self.job

        def gradients() -> float:
            self.optimizer.zero_grad()
            return accumulate(
                self.model,
                batch,
                self.targets_of,
                windows_per_micro_batch=job.windows_per_micro_batch,
                distill=job.distill,
                next_token_weight=next_token_weight(self.state.step, job.steps, job.distill),
                weights=self.weights_of(batch),
                device=self.device,
                precision=self.precision,
            )

        loss = compiling.eager_if_it_fails(gradients)
        return loss, parallel.clip(self.model, job.train.clip)

    def _documents(self) -> list[int]:
        """Those in this step's batch, whoever reads which part of it."""
        windows = self.job.windows
        return windows.documents_of(windows.batch(self.state.step, self.job.windows_per_batch))

    def _save(self) -> None:
        if not self.state.left_out:  # a checkpoint of a bad moment might be gone back to: none is written then
            self.checkpoints.save(self.model, self.optimizer, self.state)

    def _validates_now(self) -> bool:
        steps = self.job.steps
        return self.state.step % max(1, steps // VALIDATIONS) == 0 or self.state.step == steps

    def _validate(self) -> dict[str, Any]:
        count = validation_windows(self.job.steps, self.job.windows_per_batch)
        loss = validate(self.model, self.job.validation, self.device, count)
        self.state = replace(self.state, validation_loss=loss if math.isfinite(loss) else None)
        place = {"step": self.state.step, "tokens": self.state.tokens}
        return place | {"validation_loss": self.state.validation_loss}

    def _stop(self, reason: Stop) -> None:
        self._save()
        self.checkpoints.finish()
        saved = pace.found(self.checkpoints.folder)
        where = f"saved as {saved[-1].name}" if saved else "nothing was saved yet"
        say(f"{self.job.name}: stopped at step {self.state.step} of {self.job.steps}; {where}")
        raise reason

    def recover(self, trouble: Trouble) -> tuple[PassedOver, ...]:
        """The data to leave out when training resumes from the last checkpoint by steps.

        Raises WorkError if that was tried.
        """
        name, step = self.job.name, trouble.step + 1
        say(f"{name}: step {step}: {trouble.reason}")
        last = self.checkpoints.newest(by_steps=True)
        saved = checkpoint.read_state(last.path) if last is not None else State()
        start = replace(saved, passed_over=self.state.passed_over).go_on_after(trouble)
        if start is None:
            raise WorkError(
                f"{name}: step {step}: {trouble.reason}, again after data was skipped; training stops here. "
                f"{self.report(trouble)} says what was in the batch. {advice(name, self.job.train)}"
            )
        say(f"{name}: back to step {start.step}; skipping the data from there to step {step}")
        self.checkpoints.drop_after(start.step)
        return start.passed_over

    def report(self, trouble: Trouble) -> str:
        """Writes what was in the batch that could not be learned from, window by window; gives the file's name.

        All ranks run the model over all of it, for none has it whole.
        """
        batch = self.job.windows.batch(trouble.step, self.job.windows_per_batch)
        path = self.job.folder / f"stopped-at-{trouble.step + 1:08d}.json"
        windows = []
        for row in range(len(batch.starts)):
            part = batch[row : row + 1]
            loss, learned = _next_token_loss(self.model, part, self.device)
            windows.append(
                {
                    "position": int(part.starts[0]),
                    "documents": self.job.windows.documents_of(part),
                    "learned_tokens": learned,
                    "next_token_loss": loss / max(1, learned) if math.isfinite(loss) else str(loss),
                    "text": self.job.decode(part.targets[part.mask].tolist()) if self.job.decode else None,
                }
            )
        if ranks.rank() == 0:
            write_json(path, {"step": trouble.step + 1, "reason": trouble.reason, "windows": windows})
        return str(path)


def _initial_model(job: Job, device: torch.device) -> Gemma2:
    if job.start_from is None:
        return Gemma2(job.config).initialise(job.seed)
    start = weights.load(job.start_from, device)
    rows = None if job.start_rows is None else job.start_rows.to(device)
    if start.config == job.config and rows is None:
        return start
    # the first windows of the training text, in the seed's order, one at a time: no batch size changes what is cut
    windows = range(-(-IMPORTANCE_TOKENS // job.windows.sequence_length))
    batches = (job.windows.batch(window, 1) for window in windows)
    read = (batch.model_inputs(device) for batch in batches if not batch.damaged)
    if rows is not None:
        read = (inputs | {"ids": rows[inputs["ids"]]} for inputs in read)
    return cut(start, job.config, measure_importance(start, read), rows)


def validate(model: Gemma2, windows: Windows, device: torch.device, count: int = VALIDATION_WINDOWS[1]) -> float:
    """The next-token loss on `count` evenly spread windows of the validation text, nats per token."""
    count = min(count, len(windows))
    share = -(-count // ranks.size())
    mine = np.arange(ranks.rank() * share, (ranks.rank() + 1) * share)  # all ranks run the model equally often
    at_once = max(1, VALIDATED_AT_ONCE // windows.sequence_length)
    total, learned = 0.0, 0.0
    for first in range(0, share, at_once):
        places = mine[first : first + at_once]
        batch = windows.window_batch(np.minimum(places, count - 1) * len(windows) // count)
        batch.mask[:] &= (places < count)[:, None]
        loss, tokens = _next_token_loss(model, batch, device)
        total, learned = total + loss, learned + tokens
    total, learned = parallel.add_up(total, learned)
    return total / max(1, learned)


@torch.no_grad()
def _next_token_loss(model: Gemma2, batch: Batch, device: torch.device) -> tuple[float, int]:
    """The sum over the learned tokens, and their number."""
    with compiling.eager():
        loss = model(
            **batch.model_inputs(device),
            targets=torch.from_numpy(batch.targets).to(device),
            mask=torch.from_numpy(batch.mask).to(device),
            denominator=1,
        )
    return loss.item(), int(batch.mask.sum())
