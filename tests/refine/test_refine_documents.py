"""The documents artifact: the split by hash, and text that comes out of the flow as it went in."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from gemmule.base.errors import RequestError, WorkError
from gemmule.refine.documents import DocumentsSummary, Reading, read_split, write_documents
from gemmule.refine.sources import SourceFile, resolve
from gemmule.tokenize import train
from gemmule.tokenize.shards import write_shards


def jsonl(folder: Path, texts: list[str], name: str = "a.jsonl") -> SourceFile:
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / name).write_text(content, encoding="utf-8")
    return SourceFile(folder / name, name)


def sides(folder: Path) -> tuple[list[str], list[str]]:
    return list(read_split(folder, "train")), list(read_split(folder, "validation"))


def number(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) / 2**256


def test_split_is_by_hash_in_order_and_stable(tmp_path: Path) -> None:
    texts = [f"document {count}" for count in range(400)]
    summary = write_documents(Reading([jsonl(tmp_path, texts)]), 0.1, tmp_path / "one")
    train_side, validation = sides(tmp_path / "one")
    assert validation == [text for text in texts if number(text) < 0.1]
    assert train_side == [text for text in texts if number(text) >= 0.1]
    assert 20 < len(validation) < 60
    assert summary == DocumentsSummary(
        len(train_side), sum(map(len, train_side)), len(validation), sum(map(len, validation)), 0
    )
    more = jsonl(tmp_path, [f"another {count}" for count in range(300)], "b.jsonl")
    write_documents(Reading([more, jsonl(tmp_path, texts)]), 0.1, tmp_path / "two")
    train_now, validation_now = sides(tmp_path / "two")
    assert set(validation) <= set(validation_now)
    assert set(train_side) <= set(train_now)


def test_columns_and_summary(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("☃ plain\r\n".encode())
    file = jsonl(tmp_path, ["x", " ", "y"])
    summary = write_documents(Reading([file, *resolve(["b.txt"], tmp_path)]), 0.5, tmp_path / "out")
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "documents.parquet").to_pylist()
    split = {text: "validation" if number(text) < 0.5 else "train" for text in ("x", "y", "☃ plain\r\n")}
    assert set(split.values()) == {"train", "validation"}
    assert rows == [
        {"text": "x", "source": "a.jsonl", "position": 1, "split": split["x"]},
        {"text": "y", "source": "a.jsonl", "position": 3, "split": split["y"]},
        {"text": "☃ plain\r\n", "source": "b.txt", "position": 0, "split": split["☃ plain\r\n"]},
    ]
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["skipped"] == summary.skipped == 1
    assert written["train_documents"] + written["validation_documents"] == 3
    assert written["train_bytes"] + written["validation_bytes"] == 1 + 1 + 11
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["documents.parquet", "summary.json"]


@pytest.mark.parametrize("fraction", [0.0, 1e-9, 1 - 1e-9, 1.0])
def test_neither_side_is_empty(tmp_path: Path, fraction: float) -> None:
    texts = [f"document {count}" for count in range(9)]
    summary = write_documents(Reading([jsonl(tmp_path, texts)]), fraction, tmp_path / "out")
    train_side, validation = sides(tmp_path / "out")
    ordered = sorted(texts, key=number)
    if fraction < 0.5:
        assert validation == ordered[:1]
    else:
        assert train_side == ordered[-1:]
    assert sorted(train_side + validation) == sorted(texts)
    assert (summary.train_documents, summary.validation_documents) == (len(train_side), len(validation))


def test_equal_texts_share_a_side(tmp_path: Path) -> None:
    for fraction in (1e-9, 0.5, 1 - 1e-9):
        folder = tmp_path / str(fraction)
        write_documents(Reading([jsonl(tmp_path, ["a", "b"] * 20)]), fraction, folder)
        train_side, validation = sides(folder)
        assert sorted([train_side, validation]) == [["a"] * 20, ["b"] * 20]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["only"], r"1 document found in 1 file: at least 2 different ones are needed"),
        (["same", "same", "same"], r"3 documents found in 1 file, all the same: at least 2"),
        ([" ", ""], r"0 documents found in 1 file: at least 2"),
    ],
)
def test_fewer_than_two_documents_are_refused(tmp_path: Path, texts: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        write_documents(Reading([jsonl(tmp_path, texts)]), 0.1, tmp_path / "out")


def test_one_long_file_gives_both_sides(tmp_path: Path) -> None:
    text = "".join(f"Paragraph {count} of a long file.\r\n\r\n" for count in range(3000))
    (tmp_path / "a.txt").write_bytes(text.encode())
    summary = write_documents(Reading(resolve(["a.txt"], tmp_path)), 0.05, tmp_path / "out")
    assert summary.validation_documents >= 1
    assert summary.train_documents >= 1
    assert summary.validation_documents + summary.train_documents == 7  # of about 16 KiB, in 101 kB
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "documents.parquet").to_pylist()
    assert "".join(row["text"] for row in rows) == text


def test_many_groups_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemmule.refine.documents.GROUP_BYTES", 50)
    texts = [f"document {count}" for count in range(300)]
    write_documents(Reading([jsonl(tmp_path, texts)]), 0.2, tmp_path / "out")
    assert pyarrow.parquet.ParquetFile(tmp_path / "out" / "documents.parquet").num_row_groups > 40
    assert list(read_split(tmp_path / "out", "validation")) == [text for text in texts if number(text) < 0.2]


def test_bytes_depend_on_the_sources_alone(tmp_path: Path) -> None:
    file = jsonl(tmp_path, [f"document {count}" for count in range(100)])
    for name in ("a", "b"):
        write_documents(Reading([file]), 0.1, tmp_path / name)
    for name in ("documents.parquet", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"documents\.parquet: missing"):
        list(read_split(tmp_path, "train"))
    write_documents(Reading([jsonl(tmp_path, ["a", "b"])]), 0.5, tmp_path)
    file = tmp_path / "documents.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(WorkError, match=r"documents\.parquet: missing or damaged"):
        list(read_split(tmp_path, "train"))


ODD = "first\u2028second\u2029third\u0085fourth\x0cfifth\r\nsixth\rseventh\x1e\x0b\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_odd_separators_come_back_from_the_token_stream(tmp_path: Path, name: str) -> None:
    """datasets#3729: a loader cut lines at U+2029. One document, byte-identical after the whole flow."""
    if name == "a.jsonl":
        raw = ODD
        for control in "\r\n\x1e\x0b":  # JSON has these escaped; the others stand raw, the form feed too
            raw = raw.replace(control, json.dumps(control)[1:-1])
        content = '{"text": "' + raw + '"}\n'
        assert all(separator in content for separator in "\u2028\u2029\u0085\x0c")
    else:
        content = ODD
    (tmp_path / name).write_bytes(content.encode())
    (tmp_path / "z.txt").write_text("another document")
    files = resolve([name, "z.txt"], tmp_path)
    summary = write_documents(Reading(files), 0.5, tmp_path / "documents")
    assert (summary.train_documents, summary.validation_documents) == (1, 1)
    train_side, validation = sides(tmp_path / "documents")
    assert sorted(train_side + validation) == ["another document", ODD]
    split = "train" if ODD in train_side else "validation"
    tokenizer = train(train_side + validation, 262)
    shards = write_shards(read_split(tmp_path / "documents", split), tokenizer, tmp_path / "tokens")
    assert shards.document_starts.tolist() == [0]
    assert shards[-1] == tokenizer.eos_id
    assert tokenizer.decode(shards[:-1]).encode() == ODD.encode()
    assert shards.text_bytes == len(ODD.encode())


def weighted(files: dict[str, float], folder: Path) -> list[SourceFile]:
    return resolve(files, folder, weights=files)


def test_a_source_of_weight_two_stands_twice_after_all_have_stood_once(tmp_path: Path) -> None:
    a, b = ([f"{name} {count}" for count in range(60)] for name in "ab")
    jsonl(tmp_path, a), jsonl(tmp_path, b, "b.jsonl")
    write_documents(Reading(weighted({"a.jsonl": 2, "b.jsonl": 1}, tmp_path)), 0.2, tmp_path / "out")
    train_side, validation = sides(tmp_path / "out")
    assert validation == [text for text in a + b if number(text) < 0.2]
    once = [text for text in a + b if number(text) >= 0.2]
    twice = [text for text in a if number(text) >= 0.2]
    assert train_side == once + twice
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["copies"], summary["train_documents"]) == (len(twice), len(once) + len(twice))
    assert summary["train_bytes"] == sum(map(len, train_side))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["documents.parquet", "summary.json"]
    table = pyarrow.parquet.read_table(tmp_path / "out" / "documents.parquet")
    assert table.column_names == ["text", "source", "position", "split"]
    assert table.to_pylist()[-1]["source"] == "a.jsonl"


def test_a_part_of_a_weight_is_chosen_by_the_text_alone(tmp_path: Path) -> None:
    texts = [f"text {count}" for count in range(1000)]
    jsonl(tmp_path, texts)

    def train_side(weight: float) -> list[str]:
        folder = tmp_path / f"out-{weight}"
        write_documents(Reading(weighted({"a.jsonl": weight}, tmp_path)), 0.1, folder)
        found, validation = sides(folder)
        assert validation == [text for text in texts if number(text) < 0.1]
        return found

    all_once, half, more = train_side(1), train_side(0.5), train_side(2.5)
    assert 400 < len(half) < 500
    assert half == [text for text in all_once if text in set(half)]
    assert more == all_once + all_once + half
    assert set(train_side(0.2)) < set(half)


def test_weights_that_leave_nothing_to_train_on_are_refused(tmp_path: Path) -> None:
    jsonl(tmp_path, ["x", "y", "z"])
    with pytest.raises(RequestError, match=r"weights leave out all \d documents for training"):
        write_documents(Reading(weighted({"a.jsonl": 1e-9}, tmp_path)), 0.5, tmp_path / "out")
    write_documents(Reading(weighted({"a.jsonl": 1e-9}, tmp_path)), 1.0, tmp_path / "all")
    assert [len(side) for side in sides(tmp_path / "all")] == [1, 2]


def test_a_file_has_the_weight_of_the_first_pattern_that_names_it(tmp_path: Path) -> None:
    jsonl(tmp_path, ["x"]), jsonl(tmp_path, ["y"], "b.jsonl")
    assert [file.weight for file in weighted({"b.jsonl": 3, "*.jsonl": 2}, tmp_path)] == [3, 2]
