"""Bytes that are no UTF-8, replaced where that is asked for: in every format, and wherever a block ends."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.encodings import valid_blocks
from gemmule.base.errors import RequestError
from gemmule.refine.sources import SourceFile, Tally, read_documents

WORDS = b"so it goes and so on and on and " * 30  # a file that is mostly invalid is no text
INVALID = WORDS + b"caf\xe9 \xe2\x98\x83 \xff\xfe ab\0c \xef\xbf\xbd \xf0\x9f\x92 \xed\xa0\x80 end"
REPLACED, COUNT = WORDS.decode() + "caf� ☃ �� abc � � ��� end", 1 + 2 + 1 + 1 + 3


def content(kind: str) -> bytes:
    formats: dict[str, Callable[[], bytes]] = {
        ".txt": lambda: INVALID,
        ".jsonl": lambda: b'{"text": "' + INVALID + b'"}\n',
        ".json": lambda: b'[{"text": "' + INVALID + b'"}]',
        ".csv": lambda: b"id,text\n1," + INVALID + b"\n",
        ".txt.gz": lambda: gzip.compress(INVALID),
    }
    return formats[kind]()


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".json", ".csv", ".txt.gz"])
def test_invalid_bytes_are_replaced_and_counted_where_that_is_asked(tmp_path: Path, kind: str) -> None:
    file = SourceFile(tmp_path / f"a{kind}", f"a{kind}")
    file.path.write_bytes(content(kind))
    with pytest.raises(RequestError, match=r"not UTF-8|NUL byte"):
        list(read_documents(file))
    tally = Tally()
    assert [document.text for document in read_documents(file, tally=tally, invalid="replace")] == [REPLACED]
    assert tally.replaced == COUNT


def test_a_column_of_parquet_too(tmp_path: Path) -> None:
    values = pyarrow.array([INVALID, b"whole"]).cast(pyarrow.string(), safe=False)
    table = pyarrow.Table.from_arrays([pyarrow.Array.from_buffers(pyarrow.string(), 2, values.buffers())], ["text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    file, tally = SourceFile(tmp_path / "a.parquet", "a.parquet"), Tally()
    with pytest.raises(RequestError, match="row 0: field 'text' is not UTF-8"):
        list(read_documents(file))
    texts = [document.text for document in read_documents(file, tally=tally, invalid="replace")]
    assert texts == [REPLACED, "whole"]
    assert tally.replaced == COUNT


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_where_a_block_ends_does_not_matter(size: int) -> None:
    counts: list[int] = []
    blocks = (INVALID[start : start + size] for start in range(0, len(INVALID), size))
    assert b"".join(valid_blocks(blocks, counts.append)).decode() == REPLACED
    assert sum(counts) == COUNT
    assert b"".join(valid_blocks([b"ab\xe2\x98"], counts.append)) == "ab�".encode()


def test_valid_text_stays_as_it_is() -> None:
    text = "a \ufeff b � ☃ 🙂\r\n\x0c".encode()
    counts: list[int] = []
    assert b"".join(valid_blocks([text[:9], text[9:]], counts.append)) == text
    assert counts == []


@pytest.mark.parametrize(("beginning", "words"), [("ab☃\n".encode("utf-16"), "UTF-16LE"), (b"%PDF-1.4", "a PDF")])
def test_files_that_are_no_text_at_all_are_still_refused(tmp_path: Path, beginning: bytes, words: str) -> None:
    file = SourceFile(tmp_path / "a.txt", "a.txt")
    file.path.write_bytes(beginning)
    with pytest.raises(RequestError, match=words):
        list(read_documents(file, invalid="replace"))


def test_the_line_after_an_invalid_one_is_the_same_record(tmp_path: Path) -> None:
    file = SourceFile(tmp_path / "a.jsonl", "a.jsonl")
    file.path.write_bytes(b'{"text": "a\xff"}\n' + json.dumps({"text": "b"}).encode())
    found = [(document.position, document.text) for document in read_documents(file, invalid="replace")]
    assert found == [(1, "a�"), (2, "b")]
