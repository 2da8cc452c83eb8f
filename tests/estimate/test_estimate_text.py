"""How much text there is: exact where it is little, from a sample where it is much, compressed or not."""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.estimate import text
from gemmule.plan.plan import Plan
from gemmule.refine.documents import Reading, write_documents
from gemmule.refine.sources import resolve
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.training import train

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def plan_of(folder: Path, **data: object) -> Plan:
    recipe = {
        "name": "counted",
        "data": {"sources": ["texts"], "validation_fraction": 0.2, "sequence_length": 16} | data,
        "tokenizer": {"vocabulary_size": 280},
        "models": {"one": {"architecture": {"layers": 2, "width": 16}, "train": {"tokens": 512}}},
    }
    return Plan(recipe, folder / "recipe.toml", folder / "run")


def test_little_text_is_counted_exactly(text_folder, texts, tmp_path):
    found = text.look(plan_of(text_folder.parent))
    counts = write_documents(Reading(resolve(["texts"], text_folder.parent)), 0.2, tmp_path / "documents")
    assert found.share == 1.0
    assert found.documents == len(texts)
    assert found.train_bytes == counts.train_bytes
    assert found.bytes == sum(len(each.encode()) for each in texts)
    words = train(text.read_split(tmp_path / "documents", "train"), 280)
    for split, tokens in (("train", found.train_tokens), ("validation", found.validation_tokens)):
        assert tokens == len(write_shards(text.read_split(tmp_path / "documents", split), words, tmp_path / split))
    assert not (text_folder.parent / "run").exists()


def make_text(seed: int) -> str:
    """About 100 kB of lines of numbers in words."""
    generator = random.Random(seed)
    return "".join(f"{' '.join(generator.choices(WORDS, k=8))}\n\n" for _ in range(2500))


WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
LONG = [make_text(seed) for seed in range(3)]


def write_all(folder: Path, kind: str) -> int:
    """LONG in one file of this kind; gives the bytes of text."""
    whole = "".join(LONG)
    records = [{"text": line} for line in whole.splitlines()]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    folder.mkdir()
    if kind == "txt":
        (folder / "a.txt").write_text(whole)
    elif kind == "txt.gz":
        (folder / "a.txt.gz").write_bytes(gzip.compress(whole.encode()))
    elif kind == "txt.zst":
        (folder / "a.txt.zst").write_bytes(zstd.compress(whole.encode()))
    elif kind == "jsonl":
        (folder / "a.jsonl").write_text(lines)
    elif kind == "json":
        (folder / "a.json").write_text(json.dumps(records, indent=1))
    elif kind == "csv":
        (folder / "a.csv").write_text("n,text\n" + "".join(f'1,"{record["text"]}"\n' for record in records))
    else:
        table = pyarrow.Table.from_pylist(records)
        pyarrow.parquet.write_table(table, folder / "a.parquet", compression="none", use_dictionary=False)
    return len(whole.encode()) if kind.startswith("txt") else sum(len(record["text"]) for record in records)


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "txt.zst", "jsonl", "parquet", "json", "csv"])
def test_a_sample_stands_for_the_whole(kind, tmp_path):
    size = write_all(tmp_path / "texts", kind)
    (tmp_path / "cut").mkdir()
    files, share = text.sample(resolve(["texts"], tmp_path), "text", tmp_path / "cut", size=100_000)
    counts = write_documents(Reading(files), 0.2, tmp_path / "documents")
    looked_at = counts.train_bytes + counts.validation_bytes
    assert share < 0.6
    assert looked_at < 150_000
    assert looked_at / share == pytest.approx(size, rel=0.03)


def test_small_files_leave_their_part_of_the_sample_to_large_ones(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "cut").mkdir()
    for number in range(9):
        (tmp_path / "texts" / f"{number}.txt").write_text(LONG[0][:1000])
    (tmp_path / "texts" / "large.txt").write_text(LONG[1])
    files = resolve(["texts"], tmp_path)
    some, share = text.sample(files, "text", tmp_path / "cut", size=len(LONG[1]) + 20_000)
    assert (some, share) == (files, 1.0)
    _, share = text.sample(files, "text", tmp_path / "cut", size=100_000)
    assert share == pytest.approx(100_000 / (9_000 + len(LONG[1])), rel=0.02)
