"""What the small initial scale of the post-norms is worth: a model of the demo with it and without.

    python benchmarks/initial_weights.py [--model control] [--tokens 200000] [--scales 1 0.41] [--rates 4e-3 8e-3]

Trained without a teacher, on the same tokens in the same order, at each learning rate; only the scale differs at
which the norms after attention and feed-forward start: 1, and (2 layers)^-0.5, if --scales does not say otherwise.
Prints one table of perplexities on the windows of the validation text that training looks at.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import common
import torch
from rich.table import Table

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.run.runner import Family
from gemmule.tokenize import load_tokenizer
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.windows import Windows
from gemmule.train.loop import validate
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer
from gemmule.train.schedule import learning_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's tokens are, or go")
    parser.add_argument("--model", default="control", help="a model that the demo trains")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--scales", type=float, nargs="+")
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3, 8e-3])
    wishes = parser.parse_args()

    family = Family.from_file(common.DEMO, out=wishes.run)
    family.run("tokenize")
    length, words = family.plan.recipe.data.sequence_length, load_tokenizer(wishes.run / "tokenizer")
    train, validation = (
        Windows(TokenShards(wishes.run / "tokens" / split), length, words.bos_id, words.pad_id)
        for split in ("train", "validation")
    )
    shape, settings = common.demo_config(wishes.model), family.plan.recipe.models[wishes.model].train
    assert settings is not None
    table = Table("post-norm scale at the start", *(f"perplexity at {rate:g}" for rate in wishes.rates))
    for scale in wishes.scales or (1, (2 * shape.layers) ** -0.5):
        cells = []
        for rate in wishes.rates:
            wanted = settings.model_copy(update={"tokens": wishes.tokens, "learning_rate": rate})
            cells.append(f"{perplexity(shape, scale, wanted, train, validation):.1f}")
        table.add_row(f"{scale:.2g}", *cells)
    common.show(table)


def perplexity(shape: Gemma2Config, scale: float, settings: Train, train: Windows, validation: Windows) -> float:
    """Of a model that starts at this scale, after training."""
    model = Gemma2(shape).initialise(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "post_" in name:
                weight.fill_(scale - 1)  # the scale is 1 + weight
    optimizer = Optimizer(model, settings)
    windows = settings.batch_tokens // train.sequence_length
    steps = settings.tokens // settings.batch_tokens
    for step in range(steps):
        optimizer.zero_grad()
        batch = train.batch(step, windows)
        accumulate(model, batch, lambda part: torch.from_numpy(part.targets), windows_per_micro_batch=windows)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step(learning_rate(step, steps, settings))
    return math.exp(validate(model, validation, torch.device("cpu")))


if __name__ == "__main__":
    main()
