"""Nothing of a person is in a run's folder: not in documents, shards, report, logs or manifests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import common
import pyarrow.parquet
from rich.table import Table

from gemmule.studies.noise.languages import SENTENCES, foreign
from gemmule.studies.noise.personal import PERSONAL, sentence
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.tokenizer import load_tokenizer
from refining_sections.command import EVERY_STEP, real_pages, recipe_text, watched, write


def run(folder: Path, gsm8k: Path, size: int) -> None:
    """Personal data in pages that stay, in pages that other steps drop, and in copies."""
    pages, random = real_pages(gsm8k), Random(1)
    planted: dict[str, str] = {}  # what, and its kind
    texts: list[str] = []
    for number in range(size):
        kind = list(PERSONAL)[number % len(PERSONAL)]
        said, found = sentence(kind, random)
        planted[found] = kind
        place = number // len(PERSONAL) % 3
        if place == 0:  # in a page of another language, which goes before personal data are looked for
            language = list(SENTENCES)[number % len(SENTENCES)]
            texts.append(f"{said}\n\n{foreign(language, 600, random)}")
        elif place == 1:
            texts += [f"{pages[number]}\n\n{said}"] * 2
        else:
            texts.append(f"{said} {pages[number][:200]}")
    random.shuffle(texts)
    text = write(texts, folder / "private.jsonl")
    log = folder / "private.log"
    runs = {}
    for name, verb, settings in (("masked", "run", {}), ("kept", "tokenize", {"personal_data": "keep"})):
        out, recipe = folder / name, folder / f"{name}.toml"
        recipe.write_text(recipe_text(text, EVERY_STEP | settings, processes=2))
        watched([verb, str(recipe), "--out", str(out)], log if verb == "run" else folder / "control.log")
        runs[name] = out
    watched(["inspect", str(runs["masked"]), "--json"], log)
    leaks, searched = search(runs["masked"], [log], planted)
    control, _ = search(runs["kept"], [], planted)
    table = Table("kind", "planted", "found in the run", 'with personal_data = "keep"',
                  title=f"personal data: {searched:,} files and columns of the run searched")  # fmt: skip
    for kind in PERSONAL:
        names = [found for found, its in planted.items() if its == kind]
        cells = [sum(found in places for found in names) for places in (leaks, control)]
        table.add_row(kind, f"{len(names)}", *map(str, cells))
    common.show(table)
    for found, places in list(leaks.items())[:20]:
        print(f"{planted[found]}: {', '.join(sorted(places))[:100]}")


def search(run: Path, logs: Sequence[Path], planted: Iterable[str]) -> tuple[dict[str, set[str]], int]:
    """Where any of these stands: in the bytes of files, in the columns of tables, in token shards read back."""
    leaks: dict[str, set[str]] = {}
    searched = 0
    for name, content in contents(run, logs):
        searched += 1
        for found in planted:
            if found in content or json.dumps(found)[1:-1] in content:
                leaks.setdefault(found, set()).add(name)
    return leaks, searched


def contents(run: Path, logs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for file in sorted(logs) + sorted(path for path in run.rglob("*") if path.is_file()):
        yield str(file), file.read_bytes().decode("latin-1")
        if file.suffix == ".parquet":
            table = pyarrow.parquet.read_table(file)
            for column in table.column_names:
                yield f"{file}, column {column}", "\n".join(map(str, table[column].to_pylist()))
    tokenizer = load_tokenizer(run / "tokenizer")
    for side in ("train", "validation"):
        shards = TokenShards(run / "tokens" / side)
        yield f"{run / 'tokens' / side}, decoded", tokenizer.decode(shards[0 : len(shards)].tolist())
