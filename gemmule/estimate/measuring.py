"""How fast this machine is at a recipe's own work: about ten seconds of real training steps, on random ids.

- Forward and backward of a micro-batch, and the optimizer's update, of each model with the signal that it learns from.
  A live teacher's forward pass is measured by itself, and added.
- A model too large to be tried whole is tried with two and with four of its layers: the rest follows in a straight
  line. A micro-batch too large is tried in part. Where even that is too much, FLOPs are counted, as below.
- A teacher that is no Gemma 2 is not loaded: its FLOPs take as long as a large matmul's, at a stated share.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gemmule.base.device import choose_device
from gemmule.estimate import memory
from gemmule.estimate.machine import BANDWIDTH, OF_PRODUCT, Measured, resident
from gemmule.estimate.shapes import config_of
from gemmule.losses.alm import Chunks
from gemmule.losses.head import token_losses
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.model.config import TRAINING_PASSES, Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import ModelStep
from gemmule.recipe import Model, Train
from gemmule.teach.teachers.shape import Shape
from gemmule.tokenize.windows import Batch
from gemmule.train.memory import lower_precision, recompute_activations
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer

SECONDS = 10.0  # for everything
LARGEST_MODEL = 2 * 10**9  # bytes of weights, gradients and moments that are tried whole
LARGEST_TRIED = 2 * 10**8  # parameters of two layers and a table
DEEPEST_TRIED = 64  # layers: a thin one takes its time whatever it computes
A_SCORE = 50  # FLOPs for which a score of attention stands in time, beside its own product: its softmax
ENTRY_BYTES = 1.2  # of a stored target, about: a byte if it was drawn, two if it is exact


def measure(plan: Plan, shapes: dict[str, Shape | None], vocabulary_size: int) -> Measured:
    from gemmule.train import loop  # noqa: F401 - as a run has it in memory

    process = resident()
    trained = [
        (step, config)
        for step in plan.models.values()
        if isinstance(step, ModelStep) and (config := config_of(shapes[step.name])) is not None
    ]
    share = SECONDS / (2 * len(trained) + len(shapes) + 1)
    device = choose_device(plan.recipe.machine.device)
    product = product_rate(device)
    machine = _Machine(plan, vocabulary_size, product, share)
    steps = {step.name: machine.step(step, config, shapes) for step, config in trained}
    return Measured(
        micro_batch={name: gradients for name, (gradients, _) in steps.items()},
        update={name: update for name, (_, update) in steps.items()},
        reading={name: machine.reading(shape) for name, shape in shapes.items() if shape is not None},
        judging=_judging(vocabulary_size, device, share),
        product=product,
        threads=torch.get_num_threads(),
        process=process,
    )


class _Machine:
    """Tries steps; models that are alike are tried once."""

    def __init__(self, plan: Plan, vocabulary_size: int, product: float, share: float) -> None:
        self.plan, self.vocabulary_size = plan, vocabulary_size
        self.product, self.share = product, share
        self.length = plan.recipe.data.sequence_length
        self.device = choose_device(plan.recipe.machine.device)
        self._known: dict[object, tuple[float, ...]] = {}

    def step(self, step: ModelStep, config: Gemma2Config, shapes: Mapping[str, Shape | None]) -> tuple[float, float]:
        """Seconds of a micro-batch, and of an update, of a model of this shape."""
        windows, flops_per_token = step.windows_per_micro_batch, config.flops_per_token(self.length)
        widths = tuple(shape.width for teacher in step.teachers if (shape := shapes[teacher.name]) is not None)
        how = (
            step.train.optimizer,
            step.train.recompute_activations,
            step.model.distill.model_dump_json() if step.teachers else "",
        )
        key = (config, windows, widths, how)
        if self._beyond(config, flops_per_token):
            flops = TRAINING_PASSES * flops_per_token * windows * self.length
            return flops / (OF_PRODUCT * self.product), 7 * config.parameters * memory.NUMBER / BANDWIDTH
        if key not in self._known:
            tried = self._affordable(TRAINING_PASSES * self._weighted(config, flops_per_token), windows)
            whole = self._whole(config, step.train, tried)
            times = _in_layers(config, whole, lambda c: self._step(c, step, widths, tried))
            self._known[key] = (times[0] * windows / tried, times[1])
        gradients, update = self._known[key]
        return gradients, update

    def reading(self, shape: Shape) -> float:
        """Seconds a token of a forward pass without the head."""
        config = shape.config
        if config is None or self._beyond(config, shape.flops_per_token):
            return shape.body_flops / (OF_PRODUCT * self.product)
        if config not in self._known:
            tried = self._affordable(self._weighted(config, shape.body_flops), 16)
            self._known[config] = _in_layers(
                config,
                shape.parameters * memory.NUMBER < LARGEST_MODEL and config.layers <= DEEPEST_TRIED,
                lambda c: (self._reading(c, tried),),
            )
        return self._known[config][0]

    def _beyond(self, config: Gemma2Config, flops_per_token: float) -> bool:
        """Whether even two of a model's layers, with its table, are too much to try: then its FLOPs are counted."""
        two = replace(config, layers=2)
        slow = self._weighted(config, flops_per_token) * self.length > 10 * self.share * self.product
        return slow or two.parameters > LARGEST_TRIED

    def _weighted(self, config: Gemma2Config, flops: float) -> float:
        """A token's FLOPs, and what attention's softmax takes beside them: most of a thin model's time."""
        return flops + A_SCORE * config.layers * config.heads * self.length / 2

    def _affordable(self, flops: float, windows: int) -> int:
        """How many windows can be tried four times in the time there is."""
        a_window = flops * self.length / (OF_PRODUCT * self.product)
        return max(1, min(windows, int(self.share / 4 / a_window)))

    def _whole(self, config: Gemma2Config, train: Train, windows: int) -> bool:
        """Whether a model can be tried with all of its layers."""
        held = memory.of_training(config, train, windows * self.length).total
        flops = TRAINING_PASSES * config.flops_per_token(self.length) * windows * self.length
        slow = flops > self.share * self.product
        return held < LARGEST_MODEL and not slow and config.layers <= DEEPEST_TRIED

    def _step(
        self, config: Gemma2Config, step: ModelStep, widths: tuple[int, ...], windows: int
    ) -> tuple[float, float]:
        model, train = step.model, step.train
        student = Gemma2(config).to(self.device).train()
        if train.recompute_activations:
            recompute_activations(student)
        compiling.prepare(student, self.plan.recipe.machine.compile)
        optimizer = Optimizer(student, train)
        batch = self._random_batch(config, windows)
        with self.device:
            signal = self._signal(model, widths, windows)

        def gradients() -> None:
            optimizer.zero_grad()
            accumulate(
                student, batch, lambda _: signal, windows_per_micro_batch=windows, distill=model.distill,
                next_token_weight=np.mean(model.distill.next_token_weight).item(), device=self.device,
                precision=lower_precision(self.plan.recipe.machine.precision, self.device),
            )  # fmt: skip

        def update() -> None:
            nn.utils.clip_grad_norm_(student.parameters(), train.clip)
            optimizer.step(train.learning_rate)

        gradients()
        update()
        return _median(gradients, self.share), _median(update, self.share / 4)

    def _signal(self, model: Model, widths: tuple[int, ...], windows: int) -> Tensor | DenseTeacher | Mixture | object:
        """What a model learns from, at random: next tokens, stored targets, or teachers' hidden states and heads."""
        N, V = windows * self.length, self.vocabulary_size
        if not model.teachers:
            return torch.randint(V, (windows, self.length))
        if model.distill.own_tokens:
            return Chunks(torch.randint(V, (windows, self.length)), torch.arange(N) // 2, torch.rand(-(-N // 2)) * 5)
        if model.distill.targets is not None or not widths:
            targets = model.distill.targets
            entries = max(1, round(((targets.bytes_per_token if targets else None) or 24) / ENTRY_BYTES))
            ids, equal = torch.randint(V, (N * entries,)), torch.full((N * entries,), 1 / entries)
            return SparseDistributions(torch.arange(N + 1) * entries, ids, equal, entropy=torch.ones(N))
        heads = [DenseTeacher(torch.randn(N, width), torch.randn(V, width) * width**-0.5, 30.0) for width in widths]
        return heads[0] if len(heads) == 1 else Mixture(tuple((1 / len(heads), head) for head in heads))

    @torch.no_grad()
    def _reading(self, config: Gemma2Config, windows: int) -> float:
        backbone = Gemma2(config).to(self.device).eval().model
        batch = self._random_batch(config, windows)
        read = batch.model_inputs(self.device)
        backbone(**read)
        return _median(lambda: backbone(**read), self.share) / batch.inputs.size

    def _random_batch(self, config: Gemma2Config, windows: int) -> Batch:
        shape = (windows, self.length)
        ids = np.random.default_rng(0).integers(config.vocabulary_size, size=shape)
        documents = np.zeros(shape, np.int64) if self.plan.recipe.data.separate_documents else None
        return Batch(ids, ids, np.ones(shape, bool), np.arange(windows) * self.length, documents)


def _in_layers(
    config: Gemma2Config, whole: bool, seconds: Callable[[Gemma2Config], tuple[float, ...]]
) -> tuple[float, ...]:
    """What `seconds` gives for a model; from two and four of its layers, if it is not to be tried whole."""
    if whole or config.layers <= 4:
        return seconds(config)
    two, four = (np.array(seconds(replace(config, layers=layers))) for layers in (2, 4))
    return tuple((two + (four - two) * (config.layers - 2) / 2).tolist())


def _judging(vocabulary_size: int, device: torch.device, seconds: float) -> float:
    """Seconds a number of logits that an evaluation takes to look at a model's and, half of it, at a teacher's."""
    rows = max(1, 2**22 // vocabulary_size)
    with device:
        logits, targets = torch.randn(rows, vocabulary_size), torch.zeros(rows, dtype=torch.int64)

    def judge() -> None:
        token_losses(logits, targets)
        torch.softmax(logits, dim=-1).max(dim=-1)

    judge()
    return _median(judge, seconds / 2) / logits.numel()


def product_rate(device: torch.device, size: int = 1024) -> float:
    """FLOP/s of a large float32 product."""
    x = torch.ones(size, size, device=device)
    return 2 * size**3 / _median(lambda: x @ x, 0.3)


def _median(work: Callable[[], object], seconds: float) -> float:
    """The median time of `work`, repeated twice at least and for so many seconds."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
