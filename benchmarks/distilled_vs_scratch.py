"""Does the student beat the same student trained from scratch, each at its best learning rate?

    python benchmarks/distilled_vs_scratch.py [--recipe recipes/demo.toml] [--run runs/demo] [--seeds 3]

One teacher (that of the run, trained if it is not there), and for every seed a student that learns from it and a
control that does not: same architecture, initial weights, and tokens in the same order. At the first seed both are
trained at three learning rates; at the other seeds each at the one that was best for it, or with --all-rates at all.
Prints one table; everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule.run.runner import Family

RATES = (0.5, 1.0, 2.0)  # times the recipe's own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=common.DEMO)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the recipe's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/distilled_vs_scratch"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--all-rates", action="store_true")
    wishes = parser.parse_args()

    family, student, teacher = common.student_and_teacher(wishes.recipe, wishes.run)
    train = family.plan.recipe.models[student].train
    assert train is not None
    rates = [float(f"{train.learning_rate * factor:.3g}") for factor in RATES]

    perplexities: dict[tuple[str, int, float], float] = {}
    best: dict[str, float] = {}
    for seed in range(wishes.seeds):
        wanted = {
            side: rates if not seed or wishes.all_rates else [best[side]] for side in ("distilled", "from scratch")
        }
        out = wishes.out / f"seed-{seed}"
        models = common.run(family_of(family.raw, wishes.recipe, student, teacher, seed, wanted, out))
        for side, tried in wanted.items():
            for rate in tried:
                perplexities[side, seed, rate] = models[model_name(side, rate)]["perplexity"]
        for side in wanted:
            if not seed:
                best[side] = min(rates, key=lambda rate: perplexities[side, 0, rate])
    show(perplexities, rates, wishes.seeds, train.tokens)


def model_name(side: str, rate: float) -> str:
    return f"{side.replace(' ', '-')}-{rate:g}"


def family_of(
    raw: dict[str, Any], origin: Path, student: str, teacher: Path, seed: int, wanted: dict[str, list[float]], out: Path
) -> Family:
    """A recipe of one seed: the teacher from outside, and each side at each of its rates."""
    own = copy.deepcopy(raw)
    taught = {key: value for key, value in own["models"][student].items() if key != "learn_from"}
    own |= {"seed": seed, "name": out.name, "tokenizer": {"from": str(teacher)}}
    own["models"] = {"teacher": {"from": str(teacher)}}
    for side, rates in wanted.items():
        for rate in rates:
            model = copy.deepcopy(taught)
            model["train"]["learning_rate"] = rate
            model["learn_from"] = "teacher" if side == "distilled" else "none"
            own["models"][model_name(side, rate)] = model
    return Family(own, origin, out)


def show(perplexities: dict[tuple[str, int, float], float], rates: list[float], seeds: int, tokens: int) -> None:
    table = Table(title=f"validation perplexity after {tokens:,} tokens")
    table.add_column("seed")
    for side in ("distilled", "from scratch"):
        for rate in rates:
            table.add_column(f"{side}\n{rate:g}", justify="right")
    table.add_column("ratio of\nthe best", justify="right")
    ratios = []
    for seed in range(seeds):
        bests = [
            min(value for (s, n, _), value in perplexities.items() if s == side and n == seed)
            for side in ("distilled", "from scratch")
        ]
        ratios.append(bests[0] / bests[1])
        cells = [
            f"{value:.2f}" if (value := perplexities.get((side, seed, rate))) else ""
            for side in ("distilled", "from scratch")
            for rate in rates
        ]
        table.add_row(str(seed), *cells, f"{ratios[-1]:.3f}")
    common.show(table)
    spread = f", from {min(ratios):.3f} to {max(ratios):.3f}"
    print(f"ratio: {statistics.mean(ratios):.3f} in the mean of {seeds} seeds{spread}")


if __name__ == "__main__":
    main()
