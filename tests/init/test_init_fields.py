"""The field that `gemmule init` takes: what brings new text, whatever is longer beside it; in every format."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.errors import RequestError
from gemmule.init.fields import text_fields
from gemmule.refine.sources import SourceFile

WORDS = ["king", "queen", "fool", "said", "went", "saw", "loved", "castle", "river", "night", "day", "under", "over"]
PROMPT = "You are a helpful assistant, and answer all questions at length, whatever they are about, in one paragraph. "
DRAW = random.Random(0)


def prose(length: int = 20) -> str:
    return " ".join(DRAW.choices(WORDS, k=length)).capitalize() + "."


def record(number: int, **fields: object) -> dict[str, object]:
    return {
        "id": f"{DRAW.getrandbits(400):0100x}",
        "n": number,
        "url": f"https://example.org/{'way/' * 30}{number}",
        **fields,
    }


def with_markup() -> dict[str, object]:
    text = prose()
    return {"html": f'<div class="a b c" style="color: red"><p>{text}</p><br/></div>', "body": text}


CASES = {
    "body": lambda number: record(number, body=prose(), prompt=PROMPT * 3),
    "answer": lambda number: record(number, answer=prose(), question=f"{PROMPT}{WORDS[number % 13]}?"),
    "article": lambda number: record(number, article=prose(60), summary=prose(8), title=prose(3)),
    "body (not html)": lambda number: record(number, **with_markup()),
    "text": lambda number: record(number, text=prose(10), reply=prose(15)),
    "review": lambda number: record(number, text=["positive", "negative"][number % 2], review=prose()),
    "文": lambda number: record(number, 文="".join(DRAW.choices("你好世界春夏秋冬山川河海日月", k=40)), 题="问题" * 60),
    "plot": lambda number: record(number, plot=prose(), base64=f"{DRAW.getrandbits(4000):x}"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_field_that_varies_is_taken(tmp_path: Path, name: str) -> None:
    records = [CASES[name](number) for number in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = text_fields([SourceFile(tmp_path / "a.jsonl", "a.jsonl")])
    assert found[0] == name.split()[0]
    assert set(found) == {key for key, value in records[0].items() if isinstance(value, str)}


@pytest.mark.parametrize("kind", ["jsonl", "json", "nested.json", "csv", "tsv", "parquet"])
def test_of_every_format(tmp_path: Path, kind: str) -> None:
    records = [CASES["body"](number) for number in range(60)]
    file = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        file.write_text("\ufeff" + "".join(json.dumps(record) + "\n" for record in records))
    elif kind == "json":
        file.write_text(json.dumps(records))
    elif kind == "nested.json":
        file.write_text(json.dumps({"version": "1", "data": records}))
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), file)
    else:
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(records[0]), delimiter=";" if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    assert text_fields([SourceFile(file, file.name)])[0] == "body"


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_an_empty_archive_has_no_field(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(RequestError, match=r"its records have no field of text"):
        text_fields([SourceFile(tmp_path / f"a.{kind}.gz", "a")])


def test_files_of_records_have_to_share_a_field(tmp_path: Path) -> None:
    files = [SourceFile(tmp_path / name, name) for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for file, value in zip(files, ({"a": prose()}, {"b": prose()}, {"messages": [{"role": "user"}]}), strict=True):
        file.path.write_text(json.dumps(value) + "\n")
    with pytest.raises(
        RequestError, match=r"^a\.jsonl: its records have no field of text that those of the other files"
    ):
        text_fields(files[:2])
    with pytest.raises(
        RequestError, match=r"^c\.jsonl: its records have no field of text; messages is not text but a list"
    ):
        text_fields(files[2:])
    assert text_fields([SourceFile(tmp_path / "d.txt", "d.txt")]) == []
