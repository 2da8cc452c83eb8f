"""The training loop: batches in, gradients of the mean over the learned tokens, AdamW, a checkpoint now and then.

What is learned at each token is one of three signals: the next token itself, a teacher run beside the student, or the
teacher's stored targets; a share of the next-token loss may be mixed in. Everything that happens at a step is a
function of the step, so training that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemmule.artifact import Artifact, Settings
from gemmule.data.loader import Batch, Windows
from gemmule.distill.alm import ByteAligned, Chunks, alm_loss
from gemmule.distill.targets import TargetStore
from gemmule.distill.teachers import Teacher
from gemmule.distill.vocabulary import say_lost_mass
from gemmule.errors import WorkError
from gemmule.model import compiling, weights
from gemmule.model.config import Gemma2Config
from gemmule.model.cut import cut, measure_importance
from gemmule.model.device import choose_device
from gemmule.model.transformer import Gemma2
from gemmule.progress import Meter, say
from gemmule.recipe import Distill, Machine, Train
from gemmule.train import checkpoint
from gemmule.train.metrics import MetricsLog
from gemmule.train.optimizer import make_optimizer
from gemmule.train.schedule import learning_rate, next_token_weight

LARGEST_MICRO_BATCH = 8192  # tokens whose activations are kept at once, unless the recipe says otherwise
IMPORTANCE_TOKENS = 8192  # on which it is measured what a model can do without
VALIDATIONS = 20  # points of the validation curve
VALIDATION_WINDOWS = 32
Signal = Callable[[Batch], Any]  # a micro-batch -> the targets that `model(ids, targets=...)` takes
Weights = Callable[[Batch], NDArray[np.float32] | None]  # a batch -> what each of its positions counts, [B, T]


@dataclass(frozen=True)
class Job:
    """All that training one model needs."""

    name: str
    folder: Path  # checkpoints, metrics and TensorBoard's files go here
    config: Gemma2Config
    train: Train
    distill: Distill
    machine: Machine
    seed: int
    windows: Windows  # of the training text
    validation: Windows
    settings: Settings  # of the artifact: a checkpoint of other settings is not gone on from
    inputs: dict[str, Artifact]
    teacher: Callable[[torch.device], Teacher | ByteAligned] | None = None  # loads a teacher, to run beside the student
    targets: Path | None = None  # a folder of stored targets
    start_from: Path | None = None  # a model folder, of the same shape or to be cut down to it

    @property
    def windows_per_batch(self) -> int:
        return max(1, round(self.train.batch_tokens / self.windows.sequence_length))

    @property
    def steps(self) -> int:
        return max(1, round(self.train.tokens / (self.windows_per_batch * self.windows.sequence_length)))

    @property
    def windows_per_micro_batch(self) -> int:
        length = self.windows.sequence_length
        tokens = self.train.micro_batch_tokens or LARGEST_MICRO_BATCH
        return min(self.windows_per_batch, max(1, tokens // length))


def train(job: Job) -> Gemma2:
    """Trains the job's model from its newest checkpoint, or from the start, to the end.

    Ctrl-C finishes the step, saves a checkpoint and raises KeyboardInterrupt; a second Ctrl-C stops at once.

    Raises WorkError naming the step if the loss or a gradient stops being finite.
    """
    device = choose_device(job.machine.device)
    last = checkpoint.newest(job.folder / "checkpoints")
    model = (Gemma2(job.config) if last is not None else _initial_model(job, device)).to(device).train()
    optimizer = make_optimizer(model, job.train)
    state = checkpoint.load(last, model, optimizer) if last is not None else checkpoint.State()
    if state.step:
        say(f"{job.name}: going on from step {state.step} of {job.steps}")
    total = job.steps * job.windows_per_batch * job.windows.sequence_length
    if state.step < job.steps:
        targets_of, weights_of = make_signal(job, device), make_weights(job)
        compiling.prepare(model, job.machine.compile)
    log = MetricsLog(job.folder, state.step)

    def save() -> None:
        checkpoint.save(job.folder / "checkpoints", model, optimizer, state, job.settings, job.inputs)

    try:
        with _interrupt_flag() as interrupted, Meter(job.name, total, done=state.tokens) as meter:
            while state.step < job.steps:
                started = time.monotonic()
                batch = job.windows.batch(state.step, job.windows_per_batch)
                loss, norm = _step(job, model, optimizer, batch, targets_of, state.step, device, weights_of)
                state = checkpoint.State(
                    state.step + 1, state.tokens + int(batch.mask.sum()), state.seconds + time.monotonic() - started
                )
                meter.update(state.tokens, f"loss {loss:.3f}")
                log.write(
                    {
                        "step": state.step,
                        "tokens": state.tokens,
                        "loss": loss,
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "gradient_norm": norm,
                        "tokens_per_second": round(meter.speed, 1),
                        "seconds": round(state.seconds, 3),
                    }
                )
                if state.step % max(1, job.steps // VALIDATIONS) == 0 or state.step == job.steps:
                    validation_loss = validate(model, job.validation, device)
                    log.write({"step": state.step, "tokens": state.tokens, "validation_loss": validation_loss})
                if state.step % job.train.checkpoint_every == 0 or state.step == job.steps or interrupted():
                    save()
                if interrupted():
                    say(f"{job.name}: stopped at step {state.step} of {job.steps}; saved")
                    raise KeyboardInterrupt
    finally:
        log.close()
    return model.eval()


def _initial_model(job: Job, device: torch.device) -> Gemma2:
    if job.start_from is None:
        return Gemma2(job.config).initialise(job.seed)
    start = weights.load(job.start_from, device)
    if start.config == job.config:
        return start
    # the first windows of the training text, in the seed's order, one at a time: no batch size changes what is cut
    windows = range(-(-IMPORTANCE_TOKENS // job.windows.sequence_length))
    read = (job.windows.batch(window, 1).model_inputs(device) for window in windows)
    return cut(start, job.config, measure_importance(start, read))


def make_signal(job: Job, device: torch.device) -> Signal:
    """What the student learns at each token of a micro-batch."""
    if job.targets is not None:
        store = TargetStore(job.targets)
        return lambda batch: store.batch(batch).to(device)
    if job.teacher is None:
        return lambda batch: torch.from_numpy(batch.targets).to(device)
    teacher = job.teacher(device)
    if isinstance(teacher, ByteAligned):
        return teacher.chunks
    say_lost_mass(f"{job.name}'s teacher", teacher, job.windows)
    return lambda batch: teacher.expect(**batch.model_inputs(device))


def make_weights(job: Job) -> Weights:
    """What each position of a batch counts; None where all count alike."""
    if job.targets is None or job.distill.token_weights == "equal":
        return lambda batch: None
    return partial(token_weights, TargetStore(job.targets))


def token_weights(store: TargetStore, batch: Batch) -> NDArray[np.float32]:
    """What each position of the batch counts, [B, T]: the teacher's entropy there, over the mean of those learned."""
    entropy = store.batch(batch).entropy
    assert entropy is not None  # whatever is stored has it
    weights: NDArray[np.float32] = entropy.numpy().reshape(batch.mask.shape) * batch.mask
    total = weights.sum()
    return weights * (np.float32(batch.mask.sum()) / total) if total else batch.mask.astype(np.float32)


def accumulate(
    model: Gemma2,
    batch: Batch,
    targets_of: Signal,
    *,
    windows_per_micro_batch: int,
    distill: Distill | None = None,
    next_token_weight: float = 0.0,
    weights: NDArray[np.float32] | None = None,
    device: torch.device | str = "cpu",
) -> float:
    """Adds to the gradients those of the mean loss over the batch's learned tokens, a micro-batch at a time.

    Each micro-batch is divided by the whole batch's count of learned tokens, so its size changes nothing.

    Args:
        next_token_weight: the next-token loss's share, where there is a teacher.
        weights: [B, T], what each position counts; None: those that are learned count 1.

    Returns:
        The loss, nats per learned token.
    """
    distill = distill or Distill()
    learned = max(1, int(batch.mask.sum()))
    total = 0.0
    for start in range(0, len(batch.starts), windows_per_micro_batch):
        part = batch[start : start + windows_per_micro_batch]
        rows = slice(start, start + windows_per_micro_batch)
        mask = torch.from_numpy(part.mask if weights is None else weights[rows]).to(device)
        targets, next_tokens = targets_of(part), torch.from_numpy(part.targets).to(device)
        if isinstance(targets, Chunks):
            loss = alm_loss(
                model,
                part.model_inputs(device),
                next_tokens,
                targets,
                mask=mask,
                denominator=learned,
                next_token_weight=next_token_weight,
            )
        else:
            if next_token_weight and not isinstance(targets, Tensor):
                targets = ((1 - next_token_weight, targets), (next_token_weight, next_tokens))
            loss = model(
                **part.model_inputs(device),
                targets=targets,
                mask=mask,
                denominator=learned,
                temperature=distill.temperature,
                divergence="forward_kl" if distill.loss == "alm" else distill.loss,  # a control has its student's
                beta=distill.beta,
            )
        loss.backward()
        total += loss.item()
    return total


def _step(
    job: Job,
    model: Gemma2,
    optimizer: torch.optim.AdamW,
    batch: Batch,
    targets_of: Signal,
    step: int,
    device: torch.device,
    weights_of: Weights,
) -> tuple[float, float]:
    """One update. Gives the loss and the norm of the gradient before clipping."""

    def gradients() -> float:
        optimizer.zero_grad(set_to_none=True)
        return accumulate(
            model,
            batch,
            targets_of,
            windows_per_micro_batch=job.windows_per_micro_batch,
            distill=job.distill,
            next_token_weight=next_token_weight(step, job.steps, job.distill),
            weights=weights_of(batch),
            device=device,
        )

    loss = compiling.eager_if_it_fails(gradients)
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), job.train.clip))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise WorkError(
            f"{job.name}: step {step + 1}: the loss is {loss} and the gradient's norm {norm}; stopped before the "
            f"update. Try a lower models.{job.name}.train.learning_rate"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, job.steps, job.train)
    optimizer.step()
    return loss, norm


@torch.no_grad()
def validate(model: Gemma2, windows: Windows, device: torch.device) -> float:
    """The next-token loss on evenly spread windows of the validation text, nats per token."""
    count = min(VALIDATION_WINDOWS, len(windows))
    total, learned = 0.0, 0
    with compiling.eager():
        for index in range(count):
            batch = windows.window_batch([index * len(windows) // count])
            loss = model(
                **batch.model_inputs(device),
                targets=torch.from_numpy(batch.targets).to(device),
                mask=torch.from_numpy(batch.mask).to(device),
                denominator=1,
            )
            total += loss.item()
            learned += int(batch.mask.sum())
    return total / max(1, learned)


@contextmanager
def _interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether Ctrl-C was pressed; a second press raises KeyboardInterrupt at once."""
    pressed = False

    def press(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        say("finishing this step, then saving; Ctrl-C again stops at once")

    try:
        before = signal.signal(signal.SIGINT, press)
    except ValueError:  # not in the main thread: signals go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
