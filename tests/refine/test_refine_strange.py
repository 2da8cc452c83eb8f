"""What people point a recipe at: binaries beside text, one endless line, a bad byte in the middle, Japanese."""

import tracemalloc
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError
from gemmule.refine.sources import SourceFile, Tally, read_documents, resolve

MB = 2**20
BINARIES = {
    "a.out": b"\x7fELF\2\1\1\0", "photo.jpg": b"\xff\xd8\xff", "paper.pdf": b"%PDF-1.7", "no_suffix": b"\0" * 99,
    "data.bin": bytes(range(256)), "mail.mbox": b"From x", ".DS_Store": b"\0\0\0\1Bud1",
}  # fmt: skip


def test_binaries_beside_text_are_passed_over(tmp_path: Path) -> None:
    for name, content in BINARIES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a.txt").write_text("so it goes")
    assert [file.name for file in resolve(["."], tmp_path)] == ["a.txt"]


def test_binaries_that_are_called_text_are_named_or_skipped(tmp_path: Path) -> None:
    for name in ("a.out", "photo.jpg", "paper.pdf", "data.bin"):
        (tmp_path / f"{name}.txt").write_bytes(BINARIES[name] * 20)
    (tmp_path / "z.txt").write_text("so it goes")
    tally = Tally()
    texts = []
    for file in resolve(["."], tmp_path):
        if file.name != "z.txt":
            with pytest.raises(RequestError, match=rf"^{file.name}, line 1: not text"):
                list(read_documents(file))
        texts += [document.text for document in read_documents(file, tally=tally, skip_bad=True)]
    assert texts == ["so it goes"]
    assert tally.bad == 4


def test_one_endless_line_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """3 GB took 33 MB in all, by hand; here 24 MB, with nowhere to cut but between characters."""
    (tmp_path / "a.txt").write_bytes("吾輩は猫である。".encode() * MB)
    tracemalloc.start()
    length = 0
    for document in read_documents(SourceFile(tmp_path / "a.txt", "a.txt")):
        assert document.position == length
        length += len(document.text.encode())
    assert length == 24 * MB
    assert tracemalloc.get_traced_memory()[1] < 5 * MB
    tracemalloc.stop()


def test_a_record_without_end_is_refused_in_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemmule.refine.records.LONGEST_RECORD", 2 * MB)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + b"so it goes " * (2 * MB) + b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    texts = [each.text for each in read_documents(SourceFile(tmp_path / "a.jsonl", "a.jsonl"), skip_bad=True)]
    assert tracemalloc.get_traced_memory()[1] < 8 * MB
    tracemalloc.stop()
    assert texts == ["after"]


def test_a_bad_byte_in_the_middle_costs_one_character_where_that_is_asked(tmp_path: Path) -> None:
    words = b"so it goes, line by line\n" * 100_000
    (tmp_path / "a.txt").write_bytes(words[:1_250_000] + b"\xff" + words[1_250_000:])
    file, tally = SourceFile(tmp_path / "a.txt", "a.txt"), Tally()
    with pytest.raises(RequestError, match=r"^a\.txt, line 50001 \(byte 1250000\): not UTF-8 \(bytes FF 73 6F 20\)"):
        list(read_documents(file))
    text = "".join(document.text for document in read_documents(file, tally=tally, invalid="replace"))
    assert text == (words[:1_250_000] + "\ufffd".encode() + words[1_250_000:]).decode()
    assert tally.replaced == 1


def test_a_hole_in_a_file_is_dropped_where_that_is_asked(tmp_path: Path) -> None:
    """What a file system that lost power leaves: a stretch of NUL bytes."""
    with (tmp_path / "a.txt").open("wb") as file:
        file.write(b"so it goes\n" * 1000)
        file.seek(40 * MB)
        file.write(b"and on\n")
    tally = Tally()
    documents = list(read_documents(SourceFile(tmp_path / "a.txt", "a.txt"), tally=tally, invalid="replace"))
    assert "".join(each.text for each in documents) == "so it goes\n" * 1000 + "and on\n"
    assert tally.replaced == 40 * MB - 11_000


@pytest.mark.parametrize("encoding", ["shift_jis", "euc_jp"])
def test_japanese_in_another_encoding_is_refused_and_never_guessed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(("吾輩は猫である。名前はまだ無い。\n" * 500).encode(encoding))
    with pytest.raises(RequestError, match=r"^a\.txt, line 1 \(byte 0\): not UTF-8"):
        list(read_documents(SourceFile(tmp_path / "a.txt", "a.txt")))


def test_a_japanese_text_is_cut_at_its_lines_and_loses_nothing(tmp_path: Path) -> None:
    text = "".join(
        f"第{number}章　吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" for number in range(3000)
    )
    (tmp_path / "坊っちゃん.txt").write_text(text, encoding="utf-8")
    documents = [document for file in resolve(["*.txt"], tmp_path) for document in read_documents(file)]
    assert "".join(document.text for document in documents) == text
    assert len(documents) > 10
    assert all(document.text.endswith("。\n") for document in documents)
    assert {document.source for document in documents} == {"坊っちゃん.txt"}
