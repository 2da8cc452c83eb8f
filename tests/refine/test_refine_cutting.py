"""Plain text cut into documents: joined they are the file, and they end where a reader would pause."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmule.refine.cutting import cut
from gemmule.refine.sources import SourceFile, read_documents

PARAGRAPH = b"Now is the winter of our discontent\nMade glorious summer\n\n"  # 58 bytes
LONGEST = 65_536


def pieces(text: bytes, block: int = 1_000_000) -> list[bytes]:
    found = list(cut(text[start : start + block] for start in range(0, len(text), block)))
    assert b"".join(piece for _, piece in found) == text
    assert [offset for offset, _ in found] == [sum(len(piece) for _, piece in found[:n]) for n in range(len(found))]
    return [piece for _, piece in found]


def test_up_to_64_kib_is_one_document() -> None:
    assert pieces(b"") == []
    assert pieces(b"x") == [b"x"]
    text = (PARAGRAPH * 2000)[:LONGEST]
    assert pieces(text) == [text]
    assert len(pieces(text + b"x")) == 4  # one byte more


def test_longer_is_cut_at_blank_lines_near_16_kib() -> None:
    text = PARAGRAPH * 2000  # 116,000 bytes
    documents = pieces(text)
    # the first paragraph to end at or past 16,384 bytes is the 283rd: 16,414
    assert [len(document) for document in documents] == [16_414] * 7 + [116_000 - 7 * 16_414]


@pytest.mark.parametrize(
    "blank", [b"\n\n", b"\r\n\r\n", b"\n \t \n", b"\n\n\n\n\n", b"\r\n \r\n\r\n", b"\n" * 5000], ids=repr
)
def test_blank_lines_stay_with_the_document_before(blank: bytes) -> None:
    text = b"".join(b"a line of %d\n  and its next" % number + blank for number in range(60_000 // len(blank) + 60))
    text += b"y" * max(0, LONGEST - len(text)) + b"\n"
    documents = pieces(text)
    assert len(documents) > 2
    for document, following in pairwise(documents):
        assert document.endswith(blank)
        assert re.match(rb"a line of \d|y", following)


def test_the_cut_falls_the_same_however_the_blocks_do() -> None:
    text = b"".join(b"%d words\r\n" % number + b"\r\n" * (number % 7 == 0) for number in range(12_000))
    whole = pieces(text)
    assert len(whole) > 5
    for block in (1, 4096, 16_383, 65_535, 65_536, 65_537):
        assert pieces(text, block) == whole


def filler(length: int) -> bytes:
    return b"x" * length


@pytest.mark.parametrize(
    ("text", "first"),
    [
        # a blank line only before 16 KiB: there, though it is early
        (b"Title\n\n" + filler(100_000), 7),
        # the blank line begins on the last byte that counts; its run goes on past it
        (filler(LONGEST - 1) + b"\n\r\n\r\n" + filler(9), LONGEST + 4),
        # it begins one byte later: there is none within 64 KiB, and no line end either
        (filler(9) + b" " + filler(LONGEST - 10) + b"\n\n" + filler(9), 10),
        # no blank line: the first line end from 16 KiB on, or the last before
        (filler(100) + b"\n" + filler(20_000) + b"\n" + filler(80_000), 20_102),
        (filler(100) + b"\n" + filler(10) + b"\n" + filler(90_000), 112),
        # no line end: a space
        (filler(100) + b" " + filler(20_000) + b" " + filler(80_000), 20_102),
        # nothing: at 16 KiB, between characters
        (filler(100_000), 16_384),
        ("é".encode() * 50_000, 16_384),
        (b"x" + "é".encode() * 50_000, 16_383),
        (b"x" + "☃".encode() * 50_000, 16_384),
        ("☃".encode() * 50_000, 16_383),
        (b"xx" + "\U0001f600".encode() * 50_000, 16_382),
        # leading blank lines are no document of their own
        (b"\n\n\n" + filler(100_000), 16_384),
        (b" \n \n" + filler(10) + b"\n\n" + filler(100_000), 16),
        # other separators are characters as any other
        (filler(20_000) + "\u2028\u2029\u0085".encode() + b"\x0c\r\r" + filler(80_000), 16_384),
    ],
)
def test_where_the_first_document_ends(text: bytes, first: int) -> None:
    documents = pieces(text)
    assert len(documents[0]) == first
    for document in documents:
        document.decode()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["\n", "\r\n", " \t", "\n\n", "word ", "☃é\U0001f600", "x" * 5000, "\u2028"]), max_size=60
    ),
    st.integers(1, 60),
    st.integers(50, 100_000),
)
def test_documents_joined_are_the_text(parts: list[str], repeat: int, block: int) -> None:
    text = ("".join(parts) * repeat).encode()[:400_000].decode(errors="ignore").encode()
    for document in pieces(text, block):
        document.decode()
        assert len(document) <= 2 * LONGEST


def test_positions_are_byte_offsets_in_the_file(tmp_path: Path) -> None:
    text = "Größe ☃\n\n" * 20_000  # 13 bytes each
    (tmp_path / "a.txt").write_bytes(text.encode())
    documents = list(read_documents(SourceFile(tmp_path / "a.txt", "a.txt")))
    assert "".join(document.text for document in documents) == text
    for document in documents:
        assert text.encode()[document.position :].startswith(document.text.encode())
    # 1,261 paragraphs of 13 bytes are the first to reach 16,384: 16,393
    assert [document.position for document in documents[:3]] == [0, 16_393, 32_786]
    assert not text.encode().isascii()
