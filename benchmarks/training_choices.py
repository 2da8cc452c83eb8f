"""One key of `train` at a time: the demo's control with its defaults, and with each of these changes.

    python benchmarks/training_choices.py --change 'betas = [0.9, 0.95]' 'schedule = "cosine"' ... [--model control]
        [--architecture '{ layers = 3, width = 64 }'] [--tokens 400k] [--seeds 1] [--vocabulary 2048]
        [--text ...] [--field text]

All start alike and read the same text in the same order. Prints one table: perplexity on the whole validation text,
against the defaults' of the same seed, and processor seconds.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import common  # before torch
import torch
from rich.table import Table

from gemmule import recipe as recipes
from gemmule.plan.steps.model import ModelStep
from gemmule.recipe import parse_count
from gemmule.run.runner import Family
from gemmule.train.loop import train, validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--change", nargs="+", default=[], help="keys of `train` in TOML; several with a semicolon")
    parser.add_argument("--model", default="control")
    parser.add_argument("--architecture", help="in TOML, for the demo's")
    parser.add_argument("--tokens", type=parse_count, default=400_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--text", nargs="+", help="files or folders, for the demo's text")
    parser.add_argument("--field", default="text")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/training_choices"))
    wishes = parser.parse_args()
    raw = recipes.read(common.DEMO)
    raw["tokenizer"]["vocabulary_size"] = wishes.vocabulary
    student = raw["models"]["student"]
    base = {"architecture": student["architecture"], "train": {"tokens": wishes.tokens}}
    if wishes.model == "teacher":
        base["architecture"] = raw["models"]["teacher"]["architecture"]
    if wishes.architecture:
        base["architecture"] = tomllib.loads(f"shape = {wishes.architecture}")["shape"]
    if wishes.text:
        raw["data"] |= {"sources": [str(Path(text).resolve()) for text in wishes.text], "field": wishes.field}

    table = Table("train", "perplexity", "against the defaults", "seconds")
    defaults: list[float] = []
    for change in ["", *wishes.change]:
        keys = tomllib.loads(change.replace(";", "\n"))
        made = [learn(raw, base, keys, seed, wishes.out) for seed in range(wishes.seeds)]
        perplexities = [perplexity for perplexity, _ in made]
        defaults = defaults or perplexities
        ratios = [mine / theirs for mine, theirs in zip(perplexities, defaults, strict=True)]
        seconds = statistics.median(seconds for _, seconds in made)
        row = [change or "defaults", f"{statistics.mean(perplexities):.2f}", common.interval(ratios), f"{seconds:.0f}"]
        table.add_row(*row)
        print(*row, flush=True)
    common.show(table)


def learn(raw: dict[str, Any], base: dict[str, Any], keys: dict[str, Any], seed: int, out: Path) -> tuple[float, float]:
    """A model's perplexity on the validation text, and the processor seconds of its training."""
    model = copy.deepcopy(base)
    model["train"] |= keys
    family = Family(
        raw | {"seed": seed, "models": {"model": model}},
        common.DEMO,
        out / f"{raw['tokenizer']['vocabulary_size']}-{seed}",
    )
    family.run("tokenize")
    (step,) = family.plan.of(ModelStep)
    with tempfile.TemporaryDirectory() as folder:
        job = replace(step.job(), folder=Path(folder))
        began = time.process_time()
        trained = train(job)
        seconds = time.process_time() - began
    loss = validate(trained, job.validation, torch.device("cpu"), len(job.validation))
    return math.exp(loss), seconds


if __name__ == "__main__":
    main()
