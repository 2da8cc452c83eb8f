"""What evaluating takes beside training, on long windows and a large vocabulary: memory, and what the estimate says.

    python benchmarks/evaluation_memory.py [--sequence-length 8192] [--vocabulary 32768] [--text gemmule:shakespeare]

A student and its teacher are trained for two steps. Each verb is a process of its own, started as by hand; its peak is
what the system counted. `gemmule estimate` names the same phases. Then the speed of an evaluation in this process, a
chunk of logits at a time as it is, and with all logits of 512 tokens at once, as it was before.
"""

from __future__ import annotations

import argparse
import json
import shutil
from functools import partial
from pathlib import Path

import common
import torch
from estimate import Command
from rich.table import Table
from torch import Tensor

from gemmule.evaluate.figures import measure_one
from gemmule.evaluate.passages import StreamPassages
from gemmule.losses.head import token_losses
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.teacher import probabilities
from gemmule.tokenize.windows import Windows

RECIPE = """
name = "memory"
[data]
sources = ["{text}"]
sequence_length = {length}
validation_fraction = 0.01
[tokenizer]
vocabulary_size = {vocabulary}
[models.teacher]
architecture = {{ layers = 4, width = 256 }}
train = {{ tokens = {tokens}, batch_tokens = {batch} }}
[models.student]
architecture = {{ layers = 4, width = 128 }}
learn_from = "teacher"
train = {{ tokens = {tokens}, batch_tokens = {batch} }}
[evaluate]
prompts = ["The "]
sample_tokens = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequence-length", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--text", default="gemmule:shakespeare")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/evaluation_memory"))
    wishes = parser.parse_args()
    memory(wishes)
    speed(wishes.vocabulary)


def memory(wishes: argparse.Namespace) -> None:
    shutil.rmtree(wishes.out, ignore_errors=True)
    wishes.out.mkdir(parents=True)
    batch = max(wishes.sequence_length, 4096)
    recipe, run = wishes.out / "recipe.toml", wishes.out / "run"
    recipe.write_text(
        RECIPE.format(
            text=wishes.text, length=wishes.sequence_length, vocabulary=wishes.vocabulary, batch=batch, tokens=2 * batch
        )
    )
    Command("tokenize", recipe, "--out", run)
    said = json.loads(Command("estimate", recipe, "--out", run, "--json").output)
    process = said["measured"]["process"]
    table = Table("model", "training, MB", "estimated", "real / estimated", "evaluation, MB", "estimated",
                  "real / estimated", "evaluation / training")  # fmt: skip
    for model in said["models"]:
        name = model["name"]
        real = [Command(verb, recipe, "--out", run, "--model", name).memory for verb in ("train", "evaluate")]
        parts = sum(model["memory"].values()), model["evaluation_memory"]
        row = []
        for taken, part in zip(real, parts, strict=True):
            row += [taken / 1e6, (process + part) / 1e6, taken / (process + part)]
        shown = [f"{value:.2f}" if number % 3 == 2 else f"{value:,.0f}" for number, value in enumerate(row)]
        table.add_row(name, *shown, f"{real[1] / real[0]:.2f}")
    common.show(table)


def speed(vocabulary: int) -> None:
    table = Table("vocabulary", "teacher beside", "all logits, tokens/s", "a chunk at a time", "times as fast")
    for size in sorted({2048, vocabulary}):
        student, teacher = (
            Gemma2Teacher(Gemma2(Gemma2Config(size, 4, width, 4, 2, width // 4, 4 * width, 128)))
            for width in (128, 256)
        )
        windows = common.random_windows(16, 256, size)
        for beside in (None, teacher):
            all_at_once, chunks = common.medians(
                3,
                partial(_all_logits, student, windows, beside),
                partial(measure_one, student, StreamPassages(windows), beside, "evaluating"),
            )
            rates = [len(windows.shards) / seconds for seconds in (all_at_once, chunks)]
            table.add_row(
                f"{size:,}", "no" if beside is None else "yes", *(f"{rate:,.0f}" for rate in rates),
                f"{rates[1] / rates[0]:.1f}",
            )  # fmt: skip
    common.show(table)


@torch.no_grad()
def _all_logits(model: Gemma2Teacher, windows: Windows, teacher: Gemma2Teacher | None) -> list[Tensor]:
    """The figures of each token by the plain formulas, two windows at a time."""
    figures = []
    for first in range(0, len(windows), 2):
        batch = windows.window_batch(range(first, min(first + 2, len(windows))))
        targets = torch.from_numpy(batch.targets).flatten()
        logits = model.expect(**batch.model_inputs("cpu")).logits()
        top = torch.softmax(logits, dim=-1).max(dim=-1)
        figures += [token_losses(logits, targets), top.values, top.indices]
        if teacher is not None:
            known = probabilities(teacher.expect(**batch.model_inputs("cpu")))
            figures += [token_losses(logits, known), torch.special.entr(known).sum(-1), known.argmax(-1)]
    return figures


if __name__ == "__main__":
    main()
