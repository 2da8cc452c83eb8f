"""Records: csv, tsv and json as spreadsheets and exports write them; bad ones named or skipped; long ones cut."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.errors import RequestError
from gemmule.refine.compressed import zstd
from gemmule.refine.cutting import cut
from gemmule.refine.formats.parquet import rows_at_once
from gemmule.refine.sources import SourceFile, Tally, read_documents

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
ODD = [
    "plain",
    ' with "quotes", commas; and\ttabs',
    "two\r\nlines\nand more\r\n",
    "naïve ☃ \u2028 \U0001f600",
    "'",
    "x" * 70_000,
]


def source(folder: Path, name: str, content: bytes | str) -> SourceFile:
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(COMPRESS.get(Path(name).suffix, bytes)(content))
    return SourceFile(folder / name, name)


def read(file: SourceFile, field: str = "text") -> list[str]:
    """The texts, those cut from one record joined."""
    texts: dict[int, str] = {}
    for document in read_documents(file, field):
        texts[document.position] = texts.get(document.position, "") + document.text
    return list(texts.values())


def skipping(file: SourceFile, field: str = "text") -> tuple[list[str], Tally]:
    tally = Tally()
    return [document.text for document in read_documents(file, field, tally, skip_bad=True)], tally


# --- csv


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("kind", "delimiter"), [(".csv", ","), (".csv", ";"), (".csv", "\t"), (".tsv", "\t"), (".csv", "|")]
)
def test_csv_comes_back_as_it_was_written(tmp_path: Path, kind: str, delimiter: str, suffix: str) -> None:
    """As Python's own writer, and spreadsheets, write it; Excel puts a byte-order mark in front."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "a name, with; signs", "text"], *([number, "-", text] for number, text in enumerate(ODD))])
    for mark in ("", "\ufeff"):
        file = source(tmp_path, f"a{kind}{suffix}", mark + out.getvalue())
        assert read(file) == ODD
    assert [document.position for document in read_documents(file)][:4] == [2, 3, 4, 8]
    assert read(file, "a name, with; signs") == ["-"] * len(ODD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,body\n1,a\n", r"line 1: has no field 'text' \(its fields: body, id\)"),
        ("id;body\n1;a\n", r"line 1: has no field 'text' \(its fields: body, id\)"),
        ("text,id,text\na,1,b\n", r"line 1: 2 columns are called 'text'"),
        ("id,text\n1,a\n2,Hello, world\n", r"line 3: 3 values under 2 column names; one with ',' in it needs quotes"),
        ('id,text\n1,a\n2,"b" c\n', r"line 3: not csv"),
        ('id,text\n1,a\n2,"never\nended\n', r"line 3: not csv \(unexpected end of data\)"),
        ("id,text\r1,a\r2,b\r", r"line 1: its lines end in CR alone"),
        (b"id,text\n1,caf\xe9\n", r"line 2: not UTF-8 \(bytes E9\)"),
        (b"id,text\n1,a" + b"b" * 200 + b"\0\n", r"line 2: a NUL byte"),
        ("id,text\n1\n", r"line 2: 1 values under 2 column names"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(RequestError, match=rf"^a\.csv, {message}"):
        read(source(tmp_path, "a.csv", content))


def test_a_bad_row_is_skipped_alone(tmp_path: Path) -> None:
    content = b'id,text\n1,one\n2,a, b\n3,\xe9\n\n4,"q" q\n5,"five\nlines"\n6,six\n'
    texts, tally = skipping(source(tmp_path, "a.csv", content))
    assert texts == ["one", "five\nlines", "six"]
    assert (tally.bad, tally.first_bad.split(":")[0]) == (3, "a.csv, line 3")


# --- json

RECORDS = [{"id": number, "text": text, "tags": ["a", "b"]} for number, text in enumerate(ODD)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "value",
    [RECORDS, ODD, {"version": 1.5, "tags": ["x"], "data": RECORDS, "end": {"a": [1, 2]}}, {"data": RECORDS}],
    ids=["records", "texts", "in an object", "alone in one"],
)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.zst"])
def test_json(tmp_path: Path, name: str, value: object, indent: int | None) -> None:
    for ensure_ascii in (False, True):
        file = source(tmp_path, name, json.dumps(value, indent=indent, ensure_ascii=ensure_ascii) + "\n")
        assert read(file) == ODD
    assert [document.position for document in read_documents(file)][:6] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("block", [1, 7, 64])
def test_json_does_not_depend_on_how_it_comes_in_blocks(block: int) -> None:
    from gemmule.refine.formats.json_records import read_json

    texts = [*ODD[:5], "\\", '"}', "[1, 2", "-1.5e10"]
    for value in (
        [{"n": -12.5e10, "text": text, "m": True} for text in texts],
        texts,
        {"n": 123, "d": [{"text": text} for text in texts]},
    ):
        content = json.dumps(value, ensure_ascii=False, indent=1).encode()
        blocks = [content[start : start + block] for start in range(0, len(content), block)]
        assert [text for _, text in read_json(blocks, "a.json", "text")] == texts


def test_one_object_with_the_field_is_a_record_and_so_are_lines_of_them(tmp_path: Path) -> None:
    assert read(source(tmp_path, "a.json", '{"tags": ["a", "b"], "text": "one", "authors": [{"name": "x"}]}')) == [
        "one"
    ]
    assert read(source(tmp_path, "a.json", '{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')) == [
        "one",
        "two",
        "three",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}, {"body": "b"}]', r", record 2: has no field 'text' \(its fields: body\)"),
        ('[{"text": "a"}, 3]', r", record 2: not an object or a text but a number"),
        ('[{"text": "a"},\n {"text": null}]', r", record 2: field 'text' is not a text but null"),
        ('[{"text": "a"},\n {"text" "b"}]', r", line 2: not JSON"),
        ('[{"text": "a"}', r", line 1: not JSON \(it ends early\)"),
        ('[{"text": "a\n', r", line 1: not JSON \(Unterminated string"),
        ('[{"text": "a"}] x', r", line 1: not JSON \('x' after its end\)"),
        (
            '{"data": {"x": {"text": "a"}}, "n": 1}',
            r": no list of records with .* and the object itself has no field 'text' \(its fields: data, n\)",
        ),
        ('{"a": [{"text": "a"}], "b": [{"text": "b"}]}', r": two lists of records with 'text' in it, 'a' and 'b'"),
        ("3", r": not a list of records: it begins with '3'"),
        ("text", r": not a list of records"),
        (b'["\xe9"]', r": not UTF-8 \(bytes E9 22 5D\)"),
        ('["\\ud800"]', r", record 1 holds half a surrogate pair"),
        ("[" * 100_000, r", line 1: not JSON"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(RequestError, match=rf"^a\.json{message}"):
        read(source(tmp_path, "a.json", content))


def test_a_bad_record_of_json_is_skipped_alone(tmp_path: Path) -> None:
    content = '[{"text": "a"}, 3, {"body": "b"}, {"text": null}, {"text": "c"}]'
    texts, tally = skipping(source(tmp_path, "a.json", content))
    assert (texts, tally.bad) == (["a", "c"], 3)


# --- of all kinds


def test_a_number_of_any_length_in_another_field_is_no_fault(tmp_path: Path) -> None:
    record = '{"n": ' + "1" * 5000 + ', "text": "a"}'
    assert read(source(tmp_path, "a.jsonl", record)) == ["a"]
    assert read(source(tmp_path, "a.json", f"[{record}, {record}]")) == ["a", "a"]
    assert read(source(tmp_path, "a.csv", "n,text\n" + "1" * 5000 + ",a\n")) == ["a"]


def test_bad_lines_of_jsonl_are_skipped_alone_and_counted(tmp_path: Path) -> None:
    bad = [b"nonsense", b'{"text": 3}', b'{"body": "b"}', b'{"text": "\xe9"}', b'{"text": "\\ud800"}', b'["x"]']
    content = b"\n".join([b'{"text": "a"}', *bad, b'{"text": "z"}'])
    texts, tally = skipping(source(tmp_path, "a.jsonl", content))
    assert texts == ["a", "z"]
    assert (tally.bad, tally.empty_files) == (6, 0)
    assert tally.first_bad.startswith("a.jsonl, line 2: not JSON")


def test_bad_files_and_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "b"]}), tmp_path / "a.parquet")
    texts, tally = skipping(SourceFile(tmp_path / "a.parquet", "a.parquet"))
    assert (texts, tally.bad) == (["a", "b"], 1)
    texts, tally = skipping(source(tmp_path, "a.txt", "text".encode("utf-16")))
    assert (texts, tally.bad, tally.empty_files) == ([], 1, 0)
    texts, tally = skipping(source(tmp_path, "b.txt.gz", b""))
    assert (texts, tally.bad, tally.empty_files) == ([], 0, 1)
    long = b"twenty bytes a line\n" * 10_000
    texts, tally = skipping(source(tmp_path, "c.txt", long[:180_003] + b"\xff" + long[180_004:]))
    assert tally.bad == 1
    assert 160_000 < sum(map(len, texts)) < 200_000


def test_two_columns_of_one_name_in_parquet_are_refused_by_name(tmp_path: Path) -> None:
    table = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"^a\.parquet: 2 columns are called 'text'; let one keep the name"):
        read(SourceFile(tmp_path / "a.parquet", "a.parquet"))


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_long_record_is_cut_as_a_long_file_is(tmp_path: Path, kind: str) -> None:
    long = "A paragraph of a long text.\nIts next line ☃.\n\n" * 4000
    texts = ["short", long, "end"]
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
        file = SourceFile(tmp_path / "a.parquet", "a.parquet")
    elif kind == ".csv":
        out = io.StringIO(newline="")
        csv.writer(out).writerows([["text"], *([text] for text in texts)])
        file = source(tmp_path, "a.csv", out.getvalue())
    else:
        lines = [json.dumps({"text": text}) for text in texts]
        file = source(tmp_path, f"a{kind}", "\n".join(lines) if kind == ".jsonl" else f"[{','.join(lines)}]")
    tally = Tally()
    found = [document.text for document in read_documents(file, "text", tally)]
    assert found == ["short", *(part.decode() for _, part in cut([long.encode()])), "end"]
    assert len(found) == 2 + 12
    assert tally.cut == 1


def short_text(record: dict[str, str], field: str, where: str) -> str:
    """The text of a short record; of a long one, a str must not be made."""
    assert len(record[field]) < 99
    return record[field]


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_a_very_long_record_is_never_a_str(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One emoji in a str of 38 MB makes it 152 MB."""
    module = f"gemmule.refine.formats.{kind[1:]}"
    monkeypatch.setattr(f"{module}.LONG", 10_000)
    long = '\U0001f600 é \\ "x"\n\n' + "A paragraph of a long text.\n\n" * 4000
    for text in (long, long.encode().decode("latin-1"), "é" * 100_000):
        if kind == ".parquet":
            pyarrow.parquet.write_table(pyarrow.table({"téxt": [text, "b"]}), tmp_path / "a.parquet")
            file = SourceFile(tmp_path / "a.parquet", "a.parquet")
        else:
            lines = [json.dumps({"n": 1, "téxt": each}, ensure_ascii=False) for each in (text, "b")]
            file = source(tmp_path, "a.jsonl", "\n".join(lines))
        with monkeypatch.context() as patched:
            patched.setattr("gemmule.refine.formats.jsonl.text_in", short_text)
            assert "".join(document.text for document in read_documents(file, "téxt")) == f"{text}b"
    escaped = source(tmp_path, "a.jsonl", json.dumps({"text": long}))
    assert "".join(read(escaped)) == long
    bad = (
        b'{"text": "'
        + b"a" * 20_000
        + b'\xe9"}\n{"text": "'
        + b"a" * 20_000
        + b'", "x"}\n{"body": "'
        + b"a" * 20_000
        + b'"}'
    )
    texts, tally = skipping(source(tmp_path, "a.jsonl", bad))
    assert (texts, tally.bad) == ([], 3)
    assert tally.first_bad.startswith("a.jsonl, line 1: not UTF-8 (bytes E9")


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
def test_a_record_past_the_limit_is_named_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for module in ("records", "formats.json_records"):
        monkeypatch.setattr(f"gemmule.refine.{module}.LONGEST_RECORD", 2**21)
    content = {
        ".jsonl": '{"text": "a"}\n{"text": "' + "x" * 5_000_000 + '"}\n{"text": "b"}\n',
        ".json": '["a", "' + "x" * 5_000_000 + '"]',
        ".csv": "text\na\n" + "x" * 5_000_000 + "\nb\n",
    }[kind]
    file = source(tmp_path, f"a{kind}", content)
    with pytest.raises(RequestError, match=rf"^a\{kind}.*: .*too long for a record: put long texts into txt files"):
        read(file)
    texts, tally = skipping(file)
    assert (texts, tally.bad) == (["a"] if kind == ".json" else ["a", "b"], 1)


def test_few_long_rows_of_parquet_are_in_memory_at_a_time(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["x" * 2**20 + str(n) for n in range(32)]}), tmp_path / "a.parquet"
    )
    with pyarrow.parquet.ParquetFile(tmp_path / "a.parquet") as table:
        assert rows_at_once(table) <= 8
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"] * 2000}), tmp_path / "b.parquet")
    with pyarrow.parquet.ParquetFile(tmp_path / "b.parquet") as table:
        assert rows_at_once(table) == 256
