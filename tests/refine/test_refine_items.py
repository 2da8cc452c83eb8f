"""The items of evaluation sets, with every text of theirs, by all formats."""

import gzip
from pathlib import Path
from zipfile import ZipFile

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.encodings import BadRecord
from gemmule.base.errors import WorkError
from gemmule.refine.items import read_items
from gemmule.refine.source_file import SourceFile

ROW = '{"question": "Why?", "choices": ["Because.", "So."], "n": 3, "answers": {"text": ["No"], "Yes": 1}}'
TEXTS = ["question", "Why?", "choices", "Because.", "So.", "n", "answers", "text", "No", "Yes"]


def items(path: Path, content: str | bytes) -> list[tuple[int, list[str]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(item.position, item.texts) for item in read_items(SourceFile(path, path.name))]


def test_jsonl(tmp_path: Path) -> None:
    assert items(tmp_path / "a.jsonl", f'\ufeff{ROW}\n\n"only a text"\n') == [(1, TEXTS), (3, ["only a text"])]
    assert items(tmp_path / "a.jsonl.gz", gzip.compress(ROW.encode())) == [(1, TEXTS)]


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert items(path, f"[{ROW}, {ROW}]") == [(1, TEXTS), (2, TEXTS)]
    assert items(path, f'{{"name": "set", "data": [{ROW}], "examples": [{ROW}]}}') == [
        (1, TEXTS), (2, TEXTS), (3, ["set"]),
    ]  # fmt: skip
    assert items(path, '{"question": "Why?", "choices": ["a", "b"]}') == [(1, ["Why?", "a", "b"])]
    assert items(path, '{"question": "1"}\n{"question": "2"}') == [(1, ["1"]), (2, ["2"])]


def test_tables(tmp_path: Path) -> None:
    content = 'question,answer\n"Why,\nindeed?",So\n\nHow?,"Like ""this"""\n'
    assert items(tmp_path / "a.csv", content) == [(2, ["Why,\nindeed?", "So"]), (5, ["How?", 'Like "this"'])]
    assert items(tmp_path / "a.tsv", "a\tb\n1, 2\t3\n") == [(2, ["1, 2", "3"])]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"question": ["Why?", None], "choices": [["a", "b"], []], "n": [1, 2]})
    pyarrow.parquet.write_table(table, path)
    assert list(read_items(SourceFile(path, "a"))) == [
        ("a", 0, ["question", "Why?", "choices", "a", "b", "n"]), ("a", 1, ["question", "choices", "n"]),
    ]  # fmt: skip


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "sets.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("one.jsonl", ROW)
        archive.writestr("two.txt", "An item.")
    assert list(read_items(SourceFile(path, "sets.zip"))) == [
        ("sets.zip/one.jsonl", 1, TEXTS), ("sets.zip/two.txt", 0, ["An item."]),
    ]  # fmt: skip


def test_plain_text(tmp_path: Path) -> None:
    assert items(tmp_path / "a.txt", "One item.\n") == [(0, ["One item.\n"])]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", '{"a": "b"}\n{"a": ', BadRecord),
        ("a.jsonl", b'{"a": "\xff"}', BadRecord),
        ("a.json", '[{"a": "b"}', BadRecord),
        ("a.csv", 'a,b\n"x', BadRecord),
        ("a.csv", b"a,b\n\xff,x\n", BadRecord),
        ("a.parquet", b"PAR1 no", WorkError),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: str | bytes, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        items(tmp_path / name, content)
