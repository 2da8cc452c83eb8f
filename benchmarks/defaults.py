"""With nothing but defaults, on text of your own: is the student ahead of its control?

    python benchmarks/defaults.py TEXT... [--field text] [--out benchmarks/work/defaults]

The recipe says only where the text is, the size of the vocabulary, architectures and token budgets. Prints one table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
from rich.table import Table

from gemmule.run.runner import Family


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="+")
    parser.add_argument("--field", default="text")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/defaults"))
    wishes = parser.parse_args()
    recipe = {
        "name": "defaults",
        "data": {"sources": [str(Path(text).resolve()) for text in wishes.text], "field": wishes.field},
        "tokenizer": {"vocabulary_size": 2048},
        "models": {
            "teacher": {"architecture": {"layers": 4, "width": 192}, "train": {"tokens": "3M"}},
            "student": {
                "architecture": {"layers": 3, "width": 96},
                "learn_from": "teacher",
                "train": {"tokens": "1M"},
            },
            "control": {"like": "student", "learn_from": "none"},
        },
    }
    models = common.run(Family(recipe, Path("defaults.toml"), wishes.out))
    table = Table("model", "parameters", "tokens", "perplexity", "bits per byte", "ECE", "KL to teacher", "seconds")
    for name, figures in models.items():
        divergence = figures["kl_to_teacher"]
        table.add_row(
            name,
            f"{figures['parameters']:,}",
            f"{figures['train_tokens']:,}",
            f"{figures['perplexity']:.2f}",
            f"{figures['bits_per_byte']:.3f}",
            f"{figures['ece']:.4f}",
            "" if divergence is None else f"{divergence:.3f}",
            f"{figures['seconds']:.0f}",
        )
    common.show(table)
    ratio = models["student"]["perplexity"] / models["control"]["perplexity"]
    print(f"student against control: ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
