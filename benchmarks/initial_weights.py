"""What the small initial scale of the post-norms is worth: the demo's control with it and without.

    python benchmarks/initial_weights.py [--run runs/demo] [--tokens 200000] [--rates 4e-3 8e-3]

Same tokens in the same order, at each learning rate; only the norms after attention and feed-forward start at a scale
of 1, or of (2 layers)^-0.5 as `Gemma2.initialise` has it. The run's tokens must be there. Prints one table.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from gemmule.data.loader import Windows
from gemmule.data.shards import TokenShards
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.tokenizer import load_tokenizer
from gemmule.train.loop import accumulate, validate
from gemmule.train.optimizer import make_optimizer
from gemmule.train.schedule import learning_rate

SHAPE = Gemma2Config(2048, 3, 128, 4, 2, 32, 384, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3, 8e-3])
    wishes = parser.parse_args()
    words = load_tokenizer(wishes.run / "tokenizer")
    splits = {
        split: Windows(TokenShards(wishes.run / "tokens" / split), 256, words.bos_id, words.pad_id)
        for split in ("train", "validation")
    }
    table = Table("post-norm scale at the start", *(f"perplexity at {rate:g}" for rate in wishes.rates))
    for scale, name in ((1.0, "1"), ((2 * SHAPE.layers) ** -0.5, "(2 layers)^-0.5")):
        cells = [f"{perplexity(scale, rate, wishes.tokens, splits):.1f}" for rate in wishes.rates]
        table.add_row(name, *cells)
    Console(width=100).print(table)


def perplexity(scale: float, rate: float, tokens: int, splits: dict[str, Windows]) -> float:
    train = Train(tokens=tokens, learning_rate=rate, batch_tokens=2048)
    model = Gemma2(SHAPE).initialise(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "post_" in name:
                weight.fill_(scale - 1)
    optimizer = make_optimizer(model, train)
    steps = tokens // 2048
    for step in range(steps):
        optimizer.zero_grad()
        accumulate(
            model, splits["train"].batch(step, 8), lambda b: torch.from_numpy(b.targets), windows_per_micro_batch=8
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, train)
        optimizer.step()
    return math.exp(validate(model, splits["validation"], torch.device("cpu")))


if __name__ == "__main__":
    main()
