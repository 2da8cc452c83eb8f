"""AdamW or Muon: the demo's student from scratch and distilled, each at three learning rates; or its whole family.

    python benchmarks/optimizers.py [--run runs/demo] [--tokens 200000]
    python benchmarks/optimizers.py --family --seeds 3

The teacher is that of the run, trained if it is not there; all students start alike and read the same tokens in the
same order. Prints one table: validation perplexity and seconds. With --family teacher, student and control are all
trained by one optimizer, AdamW at the rates of the recipe and Muon at RATES, over several seeds: mean, and standard
deviation. Everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule import recipe as recipes
from gemmule.run.runner import Family

FACTORS = (0.5, 1.0, 2.0)  # times the recipe's own learning rate
RATES = {"teacher": 1.2e-2, "student": 2.4e-2, "control": 1.6e-2}  # of Muon, the best of few that were tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/optimizers"))
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--family", action="store_true", help="teacher, student and control by one optimizer")
    parser.add_argument("--seeds", type=int, default=3, help="of the family")
    wishes = parser.parse_args()
    if wishes.family:
        compare_families(wishes.out, wishes.seeds)
    else:
        compare_rates(wishes)


def compare_rates(wishes: argparse.Namespace) -> None:
    family, student, teacher = common.student_and_teacher(common.DEMO, wishes.run)
    train = family.plan.recipe.models[student].train
    assert train is not None
    rates = [float(f"{train.learning_rate * factor:.3g}") for factor in FACTORS]
    base = {key: value for key, value in family.raw["models"][student].items() if key != "learn_from"}
    models: dict[str, Any] = {"teacher": {"from": str(teacher)}}
    for taught in ("none", "teacher"):
        for optimizer in ("adamw", "muon"):
            for rate in rates:
                model = copy.deepcopy(base) | {"learn_from": taught}
                model["train"] |= {"learning_rate": rate, "optimizer": optimizer, "tokens": wishes.tokens}
                models[f"{optimizer}-{taught}-{rate:g}"] = model
    wanted = family.raw | {"name": wishes.out.name, "tokenizer": {"from": str(teacher)}, "models": models}
    figures = common.run(Family(wanted, common.DEMO, wishes.out))

    table = Table("learns from", "optimizer", *(f"{rate:g}" for rate in rates), "seconds")
    for taught in ("none", "teacher"):
        for optimizer in ("adamw", "muon"):
            rows = [figures[f"{optimizer}-{taught}-{rate:g}"] for rate in rates]
            seconds = min(row["seconds"] for row in rows)
            table.add_row(taught, optimizer, *(f"{row['perplexity']:.2f}" for row in rows), f"{seconds:.0f}")
    common.show(table)


def compare_families(out: Path, seeds: int) -> None:
    table = Table("model", "AdamW", "seconds", "Muon", "seconds", "of AdamW's perplexity")
    demo = recipes.read(common.DEMO)
    demo["models"]["control"]["train"] = copy.deepcopy(demo["models"]["student"]["train"])  # for a rate of its own
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for optimizer in ("adamw", "muon"):
            wanted = copy.deepcopy(demo) | {"seed": seed}
            for name, rate in RATES.items():
                wanted["models"][name]["train"] |= {"optimizer": optimizer}
                if optimizer == "muon":
                    wanted["models"][name]["train"] |= {"learning_rate": rate}
            figures = common.run(Family(wanted, common.DEMO, out / f"{optimizer}-{seed}"))
            results.setdefault(optimizer, []).append(figures)
    for name in RATES:
        adamw, muon = ([figures[name]["perplexity"] for figures in results[side]] for side in ("adamw", "muon"))
        seconds = [statistics.median(figures[name]["seconds"] for figures in results[side]) for side in results]
        ratio = statistics.mean(muon) / statistics.mean(adamw)
        row = [spread(adamw), f"{seconds[0]:.0f}", spread(muon), f"{seconds[1]:.0f}", f"{ratio:.3f}"]
        table.add_row(name, *row)
    common.show(table)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
