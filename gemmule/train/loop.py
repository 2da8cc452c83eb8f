"""The training loop: batches in, gradients of the mean over the learned tokens, AdamW, a checkpoint now and then.

What is learned at each token is one of three signals: the next token itself, a teacher run beside the student, or the
teacher's stored targets; a share of the next-token loss may be mixed in. Everything that happens at a step is a
function of the step, so training that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from functools import partial

import torch

from gemmule import ranks
from gemmule.data.loader import Batch, Windows
from gemmule.errors import WorkError
from gemmule.model import compiling, weights
from gemmule.model.cut import cut, measure_importance
from gemmule.model.device import choose_device
from gemmule.model.transformer import Gemma2
from gemmule.progress import Meter, say
from gemmule.train import checkpoint, parallel
from gemmule.train.job import Job
from gemmule.train.metrics import MetricsLog
from gemmule.train.objective import Signal, Weights, accumulate, make_signal, make_weights
from gemmule.train.optimizer import make_optimizer
from gemmule.train.schedule import learning_rate, next_token_weight
from gemmule.train.stopping import interrupt_flag

IMPORTANCE_TOKENS = 8192  # on which it is measured what a model can do without
VALIDATIONS = 20  # points of the validation curve
VALIDATION_WINDOWS = 32


def train(job: Job) -> Gemma2:
    """Trains the job's model from its newest checkpoint, or from the start, to the end.

    Ctrl-C finishes the step, saves a checkpoint and raises KeyboardInterrupt; a second Ctrl-C stops at once.

    Raises WorkError naming the step if the loss or a gradient stops being finite.
    """
    device = choose_device(job.machine.device)
    parallel.join(device)
    last = checkpoint.newest(job.folder / "checkpoints")
    if ranks.size() > 1:
        model = parallel.shard(job.config, device, None if last is not None else partial(_initial_model, job, device))
    else:
        model = (Gemma2(job.config) if last is not None else _initial_model(job, device)).to(device).train()
    optimizer = make_optimizer(model, job.train)
    state = checkpoint.load(last, model, optimizer) if last is not None else checkpoint.State()
    if state.step:
        say(f"{job.name}: going on from step {state.step} of {job.steps}")
    total = job.steps * job.windows_per_batch * job.windows.sequence_length
    if state.step < job.steps:
        targets_of, weights_of = make_signal(job, device), make_weights(job)
        compiling.prepare(model, job.machine.compile)
    log = MetricsLog(job.folder, state.step) if ranks.rank() == 0 else None
    write = log.write if log is not None else lambda record: None

    def save() -> None:
        checkpoint.save(job.folder / "checkpoints", model, optimizer, state, job.settings, job.inputs)

    try:
        with interrupt_flag() as interrupted, Meter(job.name, total, done=state.tokens) as meter:
            while state.step < job.steps:
                started = time.monotonic()
                batch = job.windows.batch(state.step, job.windows_per_batch, ranks.rank(), ranks.size())
                loss, norm = _step(job, model, optimizer, batch, targets_of, state.step, device, weights_of)
                state = checkpoint.State(
                    state.step + 1,
                    state.tokens + int(parallel.add_up(float(batch.mask.sum()))[0]),
                    state.seconds + time.monotonic() - started,
                )
                stopping = parallel.add_up(interrupted())[0] > 0
                meter.update(state.tokens, f"loss {loss:.3f}")
                write(
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
                    write({"step": state.step, "tokens": state.tokens, "validation_loss": validation_loss})
                if state.step % job.train.checkpoint_every == 0 or state.step == job.steps or stopping:
                    save()
                if stopping:
                    say(f"{job.name}: stopped at step {state.step} of {job.steps}; saved")
                    raise KeyboardInterrupt
    finally:
        if log is not None:
            log.close()
    return parallel.gather(model).eval() if ranks.size() > 1 else model.eval()


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
    norm = parallel.clip(model, job.train.clip)
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
    share = -(-count // ranks.size())
    total, learned = 0.0, 0
    with compiling.eager():
        for place in range(ranks.rank() * share, (ranks.rank() + 1) * share):
            batch = windows.window_batch([min(place, count - 1) * len(windows) // count])
            batch.mask[:] &= place < count  # all ranks run the model equally often
            loss = model(
                **batch.model_inputs(device),
                targets=torch.from_numpy(batch.targets).to(device),
                mask=torch.from_numpy(batch.mask).to(device),
                denominator=1,
            )
            total += loss.item()
            learned += int(batch.mask.sum())
    total, learned = parallel.add_up(total, learned)
    return total / max(1, learned)
