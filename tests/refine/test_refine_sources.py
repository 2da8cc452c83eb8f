"""Text in: which files are found, what is read from each format, and what is refused, by file and line."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.errors import RequestError, WorkError
from gemmule.refine.compressed import zstd
from gemmule.refine.sources import BUNDLED, Document, SourceFile, Tally, fingerprints, read_documents, resolve

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}


def source(folder: Path, name: str, content: bytes) -> SourceFile:
    suffix = Path(name).suffix
    (folder / name).write_bytes(COMPRESS.get(suffix, bytes)(content))
    return SourceFile(folder / name, name)


def parquet(folder: Path, columns: dict[str, object], name: str = "a.parquet") -> SourceFile:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / name)
    return SourceFile(folder / name, name)


def read(file: SourceFile, field: str = "text") -> list[tuple[str, int]]:
    return [(document.text, document.position) for document in read_documents(file, field)]


# --- which files


def make_tree(folder: Path) -> None:
    for name in ("b.txt", "a.txt", "notes.MD", "deep/er/c.jsonl.gz", "deep/d.parquet", "deep/e.TXT.ZST", "odd.pdf",
                 ".hidden.txt", ".git/x.md", "deep/.cache/y.txt", "[odd] name/f.txt"):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["a.txt"], ["a.txt"]),
        (["*.txt"], ["a.txt", "b.txt"]),
        (["b.txt", "*.txt", "./a.txt", "deep/../b.txt"], ["b.txt", "a.txt"]),
        (["*"], ["a.txt", "b.txt", "notes.MD"]),
        (["deep"], ["deep/d.parquet", "deep/e.TXT.ZST", "deep/er/c.jsonl.gz"]),
        (["deep/**/*.gz"], ["deep/er/c.jsonl.gz"]),
        (["**/*.txt"], ["[odd] name/f.txt", "a.txt", "b.txt"]),
        (["[odd] name"], ["[odd] name/f.txt"]),
        (["[ab].txt"], ["a.txt", "b.txt"]),
        (["."], ["[odd] name/f.txt", "a.txt", "b.txt", "deep/d.parquet", "deep/e.TXT.ZST", "deep/er/c.jsonl.gz",
                 "notes.MD"]),
    ],
)  # fmt: skip
def test_files_folders_and_globs(tmp_path: Path, patterns: list[str], names: list[str]) -> None:
    base = tmp_path / "base [x]"  # a glob sign in the recipe's own folder is none
    make_tree(base)
    assert [file.name for file in resolve(patterns, base)] == names
    assert all(file.path.is_file() for file in resolve(patterns, base))


def test_outside_of_the_base_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path)
    (tmp_path / "recipes").mkdir()
    assert [file.name for file in resolve(["../a.txt"], tmp_path / "recipes")] == ["../a.txt"]
    absolute = str(tmp_path / "a.txt")
    assert [file.name for file in resolve([absolute, str(tmp_path / "*.txt")], tmp_path / "recipes")] == [
        absolute,
        str(tmp_path / "b.txt"),
    ]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [file.path for file in resolve(["~/a.txt", "~/*.MD"], Path("/"))] == [
        tmp_path / "a.txt",
        tmp_path / "notes.MD",
    ]


def test_code_is_read_where_a_file_or_a_glob_names_it(tmp_path: Path) -> None:
    for name in ("notes.md", "src/a.py", "src/deep/b.py", "src/c.RST.gz", "src/odd.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "src/c.RST.gz").write_bytes(gzip.compress(b"x"))
    assert [file.name for file in resolve(["."], tmp_path)] == ["notes.md"]
    assert [file.name for file in resolve(["**/*"], tmp_path)] == ["notes.md"]
    assert [file.name for file in resolve(["src/**/*.py"], tmp_path)] == ["src/a.py", "src/deep/b.py"]
    named = resolve(["src/a.py", "src/*.RST.gz"], tmp_path)
    assert [document.text for file in named for document in read_documents(file)] == ["x = 1\n", "x"]
    with pytest.raises(RequestError, match=r"^src: a folder without .*; for its 2 \.py files write src/\*\*/\*\.py$"):
        resolve(["src"], tmp_path)


def test_a_run_beneath_a_source_folder_is_no_source(tmp_path: Path) -> None:
    for name in ("a.txt", "runs/demo/recipe.toml", "runs/demo/.lock", "runs/demo/models/metrics.jsonl", "runs/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.name for file in resolve(["."], tmp_path)] == ["a.txt", "runs/b.txt"]
    assert [file.name for file in resolve(["runs/demo"], tmp_path)] == ["runs/demo/models/metrics.jsonl"]
    (tmp_path / "runs/demo/.lock").unlink()  # as a copy without hidden files is
    (tmp_path / "runs/demo/documents").mkdir()
    (tmp_path / "runs/demo/documents/manifest.json").write_text("{}")
    for pattern in (".", "**/*", "runs/**/*.jsonl", "runs/b.txt"):
        names = ["runs/b.txt"] if pattern.startswith("runs/b") else ["a.txt", "runs/b.txt"]
        if pattern.endswith(".jsonl"):
            with pytest.raises(RequestError, match="matches no file"):
                resolve([pattern], tmp_path)
        else:
            assert [file.name for file in resolve([pattern], tmp_path)] == names


def test_one_file_by_two_names_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert [file.name for file in resolve(["*.txt"], tmp_path)] == ["a.txt"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("missing.txt", r"^missing\.txt: no such file or folder"),
        ("*.jsonl", r"^\*\.jsonl: matches no file"),
        ("*.pdf", r"^\*\.pdf: matches no file"),
        ("odd.pdf", r"^odd\.pdf: a kind of file that isn't read; known: \.txt, \.md, \.html, "),
        ("void", r"^void: a folder without a file to read"),
        ("", r"^'': names no file"),
        ("x.txt.zst.gz", r"^x\.txt\.zst\.gz: a kind of file that isn't read"),
        ("gemmule:shakspeare", r"^gemmule:shakspeare: no such file"),
        ("a\0b", r"no such file"),
        ("empty.txt", r"^empty\.txt: an empty file"),
        ("e*.txt", r"^empty\.txt: an empty file"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    make_tree(tmp_path)
    (tmp_path / "void").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "x.txt.zst.gz").write_bytes(b"x")
    with pytest.raises(RequestError, match=message):
        resolve(["a.txt", pattern], tmp_path)


def test_the_bundled_text_is_shakespeare() -> None:
    files = resolve([BUNDLED], Path("/nowhere"))
    assert len(files) == 42
    assert files[11].name == "gemmule:shakespeare/hamlet.txt"
    assert sum(len(document.text) for file in files for document in read_documents(file)) == 5_283_795
    hamlet = "".join(document.text for document in read_documents(files[11]))
    assert "To be, or not to be: that is the question:\n" in hamlet
    readme = (files[0].path.parent / "README.md").read_text()
    assert "William Shakespeare" in readme
    assert "public domain" in readme


def test_parts_of_the_bundled_text_have_names() -> None:
    def names(*patterns: str) -> list[str]:
        return [file.name.removeprefix(f"{BUNDLED}/") for file in resolve(patterns, Path("/nowhere"))]

    assert names(f"{BUNDLED}/hamlet.txt") == ["hamlet.txt"]
    assert names(f"{BUNDLED}/*kinghenryiv*", f"{BUNDLED}/sonnets.txt") == [
        "1kinghenryiv.txt", "2kinghenryiv.txt", "sonnets.txt"
    ]  # fmt: skip
    assert len(names(f"{BUNDLED}/*", BUNDLED)) == 42
    for outside in ("hamlett", "../sources.py", "/etc/passwd", "README.md"):
        with pytest.raises(RequestError, match=r"no such text; there are: 1kinghenryiv\.txt"):
            names(f"{BUNDLED}/{outside}")


def test_fingerprint_reuses_what_is_known(tmp_path: Path) -> None:
    file = source(tmp_path, "a.txt", b"abc")

    def one(file: SourceFile, known: dict[str, object] | None = None) -> dict[str, object]:
        (found,) = fingerprints([file], [known])
        return found

    first = one(file)
    assert first == {
        "name": "a.txt",
        "size": 3,
        "mtime_ns": (tmp_path / "a.txt").stat().st_mtime_ns,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # FIPS 180-2, appendix B.1
    }
    assert one(file, first | {"sha256": "known"})["sha256"] == "known"
    assert one(file, first | {"sha256": "known", "size": 4}) == first
    assert one(file, first | {"sha256": "known", "mtime_ns": 4}) == first
    with pytest.raises(RequestError, match=r"gone\.txt: can't be read"):
        one(SourceFile(tmp_path / "gone.txt", "gone.txt"))


# --- what is read


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".txt", ".md", ".jsonl", ".parquet"])
def test_every_format_plain_and_compressed(tmp_path: Path, kind: str, suffix: str) -> None:
    texts = ["first\r\nline ☃", " second\n"]
    if kind == ".parquet":
        content = parquet(tmp_path, {"text": texts, "n": [1, 2]}).path.read_bytes()
        expected = [Document(text, f"f{kind}{suffix}", row) for row, text in enumerate(texts)]
    elif kind == ".jsonl":
        content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
        expected = [Document(text, f"f{kind}{suffix}", row) for row, text in enumerate(texts, start=1)]
    else:
        content = "".join(texts).encode()
        expected = [Document("".join(texts), f"f{kind}{suffix}", 0)]
    assert list(read_documents(source(tmp_path, f"f{kind}{suffix}", content))) == expected


def test_lines_of_jsonl_end_at_newline_bytes_only(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\x1ce\x0bf"
    raw = '{"text": "' + odd + '\x0cg"}'  # a raw form feed: a fault of form, and no doubt what is meant
    content = "\ufeff" + json.dumps({"text": "bom"}) + "\r\n\n  \n" + raw + '\n{"text": "no newline at the end"}'
    file = source(tmp_path, "a.jsonl", content.encode())
    assert read(file) == [("bom", 1), (odd + "\x0cg", 4), ("no newline at the end", 5)]


@pytest.mark.parametrize("name", ["a.txt", "a.md.gz", "a.py", "a.jsonl", "a.csv", "a.tsv.zst", "a.json"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    kind = Path(name).suffixes[0]
    content = {".jsonl": '{"text": "abc"}', ".csv": "text,n\nabc,1\n", ".tsv": "text\tn\nabc\t1\n", ".json": '["abc"]'}
    ((text, position),) = read(source(tmp_path, name, ("\ufeff" + content.get(kind, "abc")).encode()))
    assert text == "abc"
    assert position == {".jsonl": 1, ".json": 1, ".csv": 2, ".tsv": 2}.get(kind, 3)
    with pytest.raises(RequestError, match=rf"^{name}: holds no text"):
        read(source(tmp_path, name, "\ufeff".encode()))


def test_escaped_pairs_are_one_character(tmp_path: Path) -> None:
    assert read(source(tmp_path, "a.jsonl", rb'{"text": "\ud83d\ude00 \u0000"}')) == [("\U0001f600 \0", 1)]


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    long = "é" * 1_200_000
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in ("a", long, "b")).encode()
    first, *middle, last = read(source(tmp_path, "a.jsonl.gz", content))
    assert (first, last) == (("a", 1), ("b", 3))
    assert "".join(text for text, _ in middle) == long
    assert {position for _, position in middle} == {2}


def test_the_field_is_configurable(tmp_path: Path) -> None:
    assert read(source(tmp_path, "a.jsonl", b'{"body": "x", "text": 3}'), "body") == [("x", 1)]
    assert read(parquet(tmp_path, {"a.b": ["x"], "text": [3]}), "a.b") == [("x", 0)]


def test_parquet_strings_of_every_kind_in_many_groups(tmp_path: Path) -> None:
    texts = [f"text {number % 7}" for number in range(1000)]
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        table = pyarrow.table({"text": pyarrow.array(texts).cast(kind)})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=300)
        assert read(SourceFile(tmp_path / "a.parquet", "a")) == [(text, row) for row, text in enumerate(texts)]


def test_documents_without_text_are_passed_over_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    file = source(tmp_path, "a.jsonl", '{"text": ""}\n{"text": "x"}\n{"text": " \\n\\t\u3000"}\n'.encode())
    assert [document.position for document in read_documents(file, "text", tally)] == [2]
    assert tally.empty == 2
    assert list(read_documents(source(tmp_path, "b.txt", b" \n \n"), "text", tally)) == []
    assert tally.empty == 3
    found = read_documents(parquet(tmp_path, {"text": ["", "y"]}), "text", tally)
    assert list(found) == [Document("y", "a.parquet", 1)]
    assert tally.empty == 4


# --- what is refused

LINES = {
    b'{"text": "a"': r"line 2: not JSON \(Expecting ',' delimiter, column 13\)",
    b"[": r"line 2: not JSON",
    b'{"text": "a"} {"text": "b"}': r"line 2: not JSON \(Extra data",
    b'["a"]': r"line 2: not a JSON object but a list",
    b'"a"': r"line 2: not a JSON object but a text",
    b"null": r"line 2: not a JSON object but null",
    b'{"body": "a", "id": 1}': r"line 2: has no field 'text' \(its fields: body, id\)",
    b"{}": r"line 2: has no field 'text' \(its fields: none\)",
    b'{"text": null}': r"line 2: field 'text' is not a text but null",
    b'{"text": 3}': r"line 2: field 'text' is not a text but a number",
    b'{"text": true}': r"line 2: field 'text' is not a text but true or false",
    b'{"text": ["a"]}': r"line 2: field 'text' is not a text but a list",
    b'{"text": {"a": 1}}': r"line 2: field 'text' is not a text but an object",
    b'{"text": "a \\ud800 b"}': r"line 2: field 'text' holds half a surrogate pair \(\\ud800\)",
    b'{"text": "\xe9t\xe9"}': r"line 2: not UTF-8",
    b'{"text": "\xed\xa0\x80"}': r"line 2: not UTF-8",  # a surrogate in bytes
    b'{"text": "' + b"a" * 200 + b'\0"}': r"line 2: a NUL byte",
    b"[" * 100_000: r"line 2: not JSON",
    b'{"text": ' + b"1" * 10_000 + b"}": r"line 2: field 'text' is not a text but a number",
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:24].decode("latin1"))
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: bytes) -> None:
    file = source(tmp_path, "bad.jsonl", b'{"text": "good"}\n' + line + b'\n{"text": "good"}\n')
    with pytest.raises(RequestError, match=r"^bad\.jsonl, " + LINES[line]):
        read(file)


def test_text_that_is_not_utf8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^a\.txt, line 3 \(byte 9\): not UTF-8"):
        read(source(tmp_path, "a.txt", b"one\ntwo\nt\xe9\n"))
    with pytest.raises(RequestError, match=r"^a\.md, line 1 \(byte 1\): not UTF-8"):
        read(source(tmp_path, "a.md", "a☃".encode()[:-1]))
    long = b"twenty bytes a line\n" * 10_000  # in many documents
    with pytest.raises(RequestError, match=r"^b\.txt, line 9001 \(byte 180003\): not UTF-8"):
        read(source(tmp_path, "b.txt", long[:180_003] + b"\xff" + long[180_004:]))


@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["unmarked", "marked"])
@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
@pytest.mark.parametrize("text", ['{"text": "a"}\n', "Привет, мир.\r\n", "你好，世界。\n这是 一个文本\n"], ids=ascii)
def test_utf16_and_utf32_are_named(tmp_path: Path, kind: str, encoding: str, mark: str, text: str) -> None:
    named = rf"^a\{kind}, line 1: {encoding}; convert it: iconv -f {encoding} -t UTF-8$"
    content = (mark + text).encode(encoding)
    assert content.decode(encoding).removeprefix(mark) == text  # as iconv will have it
    with pytest.raises(RequestError, match=named):
        read(source(tmp_path, "a" + kind, content))


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text")
    for content, message in [
        (archive.getvalue(), "not text but a zip archive"),
        (gzip.compress(b"text"), r"not text but compressed with gzip: rename it to end in \.gz"),
        (b"%PDF-1.7\n", "not text but a PDF"),
        (bytes(range(256)) * 20, "not text: binary data"),
        (tarred("text"), "not text: binary data"),
    ]:
        with pytest.raises(RequestError, match=rf"^a\.txt, line 1: {message}"):
            read(source(tmp_path, "a.txt", content))
    long = b"twenty bytes a line\n" * 10_000
    with pytest.raises(RequestError, match=r"^a\.txt, line 9001 \(byte 180003\): a NUL byte"):
        read(source(tmp_path, "a.txt", long[:180_003] + b"\0" + long[180_004:]))


def tarred(text: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(text)
        file.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def test_advice_for_8_bit_encodings_shows_the_bytes_and_does_not_guess_alone(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"line 1 \(byte 3\): not UTF-8 \(bytes E9 20 61 75\).*can't be told from"):
        read(source(tmp_path, "a.txt", "café au lait".encode("cp1252")))
    with pytest.raises(RequestError, match=r"line 1 \(byte 1\): not UTF-8 \(bytes E2 98\)"):
        read(source(tmp_path, "a.txt", "a☃".encode()[:-1]))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.zst", "a.txt", "a.jsonl"])
def test_empty_when_decompressed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=rf"^{name}: holds no text"):
        read(source(tmp_path, name, b""))


def test_a_bad_row_of_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^a\.parquet: has no field 'text' \(its fields: body, id\)"):
        read(parquet(tmp_path, {"body": ["a"], "id": [1]}))
    with pytest.raises(RequestError, match=r"^a\.parquet, row 300: field 'text' is not a text but null"):
        read(parquet(tmp_path, {"text": [*["a"] * 300, None]}))
    with pytest.raises(RequestError, match=r"^a\.parquet, row 0: field 'text' is not a text but a number"):
        read(parquet(tmp_path, {"text": [1.5]}))
    with pytest.raises(RequestError, match=r"^a\.parquet, row 0: field 'text' is not a text but binary data"):
        read(parquet(tmp_path, {"text": [b"a"]}))
    offsets, letters = pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"a\xff")
    invalid = pyarrow.StringArray.from_buffers(2, offsets, letters)
    with pytest.raises(RequestError, match=r"^a\.parquet, row 1: field 'text' is not UTF-8"):
        read(parquet(tmp_path, {"text": invalid}))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz", "a.parquet", "a.parquet.zst"])
def test_a_file_that_is_gone_or_a_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=rf"^{name}: can't be read: No such file"):
        read(SourceFile(tmp_path / name, name))
    (tmp_path / name).mkdir()
    with pytest.raises(WorkError, match=rf"^{name}: can't be read: Is a directory"):
        read(SourceFile(tmp_path / name, name))


def test_a_name_that_is_no_text_is_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    try:
        path.write_text("x")
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    (file,) = resolve(["*.txt"], tmp_path)
    assert file.name == r"caf\xe9.txt"
    assert read(file) == [("x", 0)]
