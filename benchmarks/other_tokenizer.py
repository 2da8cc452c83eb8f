"""Does a student with a tokenizer of its own gain from a teacher with another one?

    python benchmarks/other_tokenizer.py TEACHER [TEXT...] [--tokens 500k] [--seeds 3] [--ways ...] [--stored BYTES]

TEACHER is a folder, a hub id or a GGUF file; TEXT are two plays of the bundled Shakespeare where none is given. The
same student learns from the text alone; from the teacher by bytes (`by_bytes`, whole distributions); and by approximate
likelihood matching (`loss = "alm"`); from a teacher alone and in equal parts with the text. With --stored BYTES the
teacher by bytes is asked once and its targets stored, so many bytes a token. Prints one table: bits per byte of the
validation text, which tokenizers don't change, last and best. Everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule.run.runner import Family

PLAYS = Path(common.__file__).parent.parent / "gemmule" / "data" / "shakespeare"
WAYS: dict[str, dict[str, Any]] = {
    "text alone": {"learn_from": "none"},
    "teacher by bytes": {"learn_from": "by-bytes"},
    "text and teacher by bytes": {"learn_from": "by-bytes", "distill": {"next_token_weight": 0.5}},
    "teacher by alm": {"learn_from": "by-alm", "distill": {"loss": "alm"}},
    "text and teacher by alm": {"learn_from": "by-alm", "distill": {"loss": "alm", "next_token_weight": 0.5}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("text", nargs="*", default=[str(PLAYS / "hamlet.txt.zst"), str(PLAYS / "macbeth.txt.zst")])
    parser.add_argument("--tokens", default="500k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--stored", type=float, metavar="BYTES")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/other"))
    wishes = parser.parse_args()
    teacher = Path(wishes.teacher).expanduser()
    table = Table("learned from", *(f"seed {seed}: bits per byte (best)" for seed in range(wishes.seeds)))
    rows: dict[str, list[str]] = {way: [] for way in wishes.ways}
    origin = str(teacher.resolve()) if teacher.exists() else wishes.teacher
    teachers = {"by-bytes": {"from": origin, "by_bytes": True}, "by-alm": {"from": origin}}
    for seed in range(wishes.seeds):
        learned = {way.replace(" ", "-"): WAYS[way] for way in wishes.ways}
        needed = {way["learn_from"] for way in learned.values()}
        models: dict[str, Any] = {name: teacher for name, teacher in teachers.items() if name in needed}
        for name, way in learned.items():
            models[name] = {
                "architecture": {"layers": 3, "width": 128},
                "train": {"tokens": wishes.tokens, "batch_tokens": 2048},
            } | way
            if wishes.stored and way["learn_from"] == "by-bytes":
                models[name]["distill"] = way.get("distill", {}) | {"targets": {"bytes_per_token": wishes.stored}}
        recipe = {
            "name": "other-tokenizer",
            "seed": seed,
            "data": {"sources": [str(Path(text).resolve()) for text in wishes.text], "validation_fraction": 0.1},
            "tokenizer": {"vocabulary_size": 1024},
            "models": models,
        }
        family = Family(recipe, Path("other.toml"), wishes.out / str(seed))
        figures = common.run(family)
        for way in wishes.ways:
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
