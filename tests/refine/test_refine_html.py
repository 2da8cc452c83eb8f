"""Pages: their main text, in whatever encoding they are, here or in another process."""

import gzip
import io
import pickle
import sys
import zipfile
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError
from gemmule.refine.sources import Document, SourceFile, Tally, extracted, read_documents, resolve

PAGE = """<!DOCTYPE html><html><head>%s<title>Mills</title><style>p { color: red }</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<article><h1>Mills</h1>%s</article><div id="comments"><p>First! Great page, thank you so much.</p></div>
<footer>Imprint, cookies, 2024</footer><script>var a = "never";</script></body></html>"""
WORDS = "A mill wheel turns in the café’s stream, and the miller’s daughter counts the sacks of flour. " * 4
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた事だけは記憶している。"
    * 4
)


def page(text: str, head: str = "") -> str:
    return PAGE % (head, f"<p>{text}</p>")


def read(folder: Path, content: bytes, name: str = "a.html", tally: Tally | None = None) -> list[str]:
    (folder / name).write_bytes(content)
    return [document.text for document in read_documents(SourceFile(folder / name, name), tally=tally)]


def test_the_main_text_is_read_and_nothing_around_it(tmp_path: Path) -> None:
    (text,) = read(tmp_path, page(WORDS).encode())
    assert text == f"Mills\n{WORDS.strip()}"


@pytest.mark.parametrize(
    ("text", "encoding", "head"),
    [
        (WORDS, "utf-8", ""),
        (WORDS, "utf-8-sig", ""),
        (WORDS, "utf-16", ""),
        (WORDS, "cp1252", '<meta charset="ISO-8859-1">'),
        (WORDS, "cp1252", '<META http-equiv=Content-Type content="text/html; charset=windows-1252">'),
        (JAPANESE, "shift_jis", '<meta charset="x-sjis">'),
        (JAPANESE, "euc_jp", '<meta charset="EUC-JP">'),
        (JAPANESE, "utf-8", '<meta charset="shift_jis">'),
    ],
)
def test_encodings_are_those_of_the_page(tmp_path: Path, text: str, encoding: str, head: str) -> None:
    (found,) = read(tmp_path, page(text, head).encode(encoding))
    assert found == f"Mills\n{text.strip()}"


def test_an_encoding_that_is_not_declared_is_not_guessed(tmp_path: Path) -> None:
    for head in ("", '<meta charset="no-such">', '<meta charset="rot13">'):
        with pytest.raises(RequestError, match=r"^a\.html: not UTF-8 \(bytes 8C E1 94 79\).*or declare it"):
            read(tmp_path, page(JAPANESE, head).encode("shift_jis"))
    file, tally = SourceFile(tmp_path / "a.html", "a.html"), Tally()
    list(read_documents(file, tally=tally, invalid="replace"))
    assert tally.replaced > 100


def test_bytes_that_are_invalid_in_its_encoding_are_replaced(tmp_path: Path) -> None:
    content = page(WORDS, '<meta charset="utf-8">').encode().replace(b"mill wheel", b"mill\xff \0wheel")
    (text,) = read(tmp_path, content)
    assert text.startswith("Mills\nA mill� wheel")


def test_a_page_without_text_is_passed_over_and_what_is_no_page_is_refused(tmp_path: Path) -> None:
    tally = Tally()
    assert read(tmp_path, b"<html><body><script>var a = 1;</script></body></html>", tally=tally) == []
    assert tally.empty == 1
    for content, words in ((b"just text", "not HTML"), (b"%PDF-1.4 <a>", "a PDF"), (b" \n", "holds no text")):
        with pytest.raises(RequestError, match=rf"^a\.html: .*{words}"):
            read(tmp_path, content)
    with pytest.raises(RequestError, match=r"^a\.html: longer than 16 MB, too long for a page"):
        read(tmp_path, b"<p>" * 2**23)


def test_a_long_page_is_cut_at_its_offsets(tmp_path: Path) -> None:
    paragraphs = "</p><p>".join(f"{number} {WORDS}" for number in range(600))
    (tmp_path / "a.html").write_text(page(paragraphs), encoding="utf-8")
    tally = Tally()
    documents = list(read_documents(SourceFile(tmp_path / "a.html", "a.html"), tally=tally))
    whole = "".join(document.text for document in documents).encode()
    assert len(documents) > 10
    assert tally.cut == 1
    for document in documents:
        assert whole[document.position :].startswith(document.text.encode())


def test_the_text_can_be_found_in_another_process(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("a.html", "b.htm"):
            archive.writestr(name, page(f"{name} {WORDS}"))
    (tmp_path / "a.zip").write_bytes(content.getvalue())
    (tmp_path / "c.html.gz").write_bytes(gzip.compress(page(WORDS).encode()))
    (tmp_path / "d.txt").write_text("<p>as it is</p>")
    files = [SourceFile(tmp_path / name, name) for name in ("a.zip", "c.html.gz", "d.txt")]
    here = [document for file in files for document in read_documents(file)]
    raw = [pickle.loads(pickle.dumps(each)) for file in files for each in read_documents(file, extract=False)]
    assert [each.is_markup for each in raw] == [True, True, True, False]
    assert raw[0].text == page(f"a.html {WORDS}")
    assert [document for each in raw for document in extracted(each)] == here
    assert [document.source for document in here] == ["a.zip/a.html", "a.zip/b.htm", "c.html.gz", "d.txt"]
    assert list(extracted(Document("x", "e.html", 0))) == [Document("x", "e.html", 0)]  # made already


def test_a_folder_of_saved_pages_is_read_and_a_page_beside_texts_is_not(tmp_path: Path) -> None:
    for name in ("a.html", "a_files/style.css", "a_files/data.json", "b.htm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(page(WORDS))
    assert [file.name for file in resolve(["."], tmp_path)] == ["a.html", "b.htm"]
    (tmp_path / "c.txt").write_text("text")
    told: list[str] = []
    assert [file.name for file in resolve(["."], tmp_path, tell=told.append)] == ["c.txt"]
    assert "a.html (and 2 more) left out next to texts" in told[0]


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(RequestError, match=r"a\.html: HTML needs trafilatura: pip install 'gemmule\[refine\]'"):
        read(tmp_path, page(WORDS).encode())
