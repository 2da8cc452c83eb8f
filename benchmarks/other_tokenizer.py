"""Does a student with a tokenizer of its own gain from a teacher with another one?

    python benchmarks/other_tokenizer.py TEACHER [TEXT...] [--tokens 500k] [--seeds 3] [--out benchmarks/work/other]

TEACHER is a folder, a hub id or a GGUF file; TEXT is a play of the bundled Shakespeare where none is given. The same
student learns from the text alone, from the teacher by approximate likelihood matching alone, and from both in equal
parts. Prints one table: bits per byte of the validation text, which tokenizers don't change, best and last.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import common
from rich.table import Table

from gemmule.family import Family

PLAYS = Path(common.__file__).parent.parent / "gemmule" / "data" / "shakespeare"
WAYS = {"text alone": None, "teacher alone": 0.0, "both": 0.5}  # the next-token loss's share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("text", nargs="*", default=[str(PLAYS / "hamlet.txt.zst"), str(PLAYS / "macbeth.txt.zst")])
    parser.add_argument("--tokens", default="500k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/other"))
    wishes = parser.parse_args()
    teacher = Path(wishes.teacher).expanduser()
    table = Table("learned from", *(f"seed {seed}: bits per byte (best)" for seed in range(wishes.seeds)))
    rows: dict[str, list[str]] = {way: [] for way in WAYS}
    for seed in range(wishes.seeds):
        models = {"teacher": {"from": str(teacher.resolve()) if teacher.exists() else wishes.teacher}}
        for way, share in WAYS.items():
            learned = {"learn_from": "none"} if share is None else {
                "learn_from": "teacher", "distill": {"loss": "alm", "next_token_weight": share}
            }  # fmt: skip
            shape = {"architecture": {"layers": 3, "width": 128}, "train": {"tokens": wishes.tokens}}
            models[way.replace(" ", "-")] = shape | learned
        recipe = {
            "name": "other-tokenizer",
            "seed": seed,
            "data": {"sources": [str(Path(text).resolve()) for text in wishes.text], "validation_fraction": 0.1},
            "tokenizer": {"vocabulary_size": 1024},
            "models": models,
        }
        family = Family(recipe, Path("other.toml"), wishes.out / str(seed))
        figures = common.run(family)
        for way in WAYS:
            name = way.replace(" ", "-")
            last = figures[name]["bits_per_byte"]
            records = map(json.loads, (family.out / "models" / name / "metrics.jsonl").read_text().splitlines())
            best = min(record["validation_loss"] for record in records if "validation_loss" in record)
            rows[way].append(f"{last:.3f} ({last * best / math.log(figures[name]['perplexity']):.3f})")
    for way, cells in rows.items():
        table.add_row(way, *cells)
    common.show(table)


if __name__ == "__main__":
    main()
