"""A format is one file in formats/: found there, it is read, looked through, sampled and named in messages."""

from __future__ import annotations

import pytest

from gemmule.base.errors import RequestError
from gemmule.estimate.text import sample
from gemmule.init.fields import text_fields
from gemmule.refine import formats
from gemmule.refine.compressed import zstd
from gemmule.refine.sources import read_documents, resolve

TOY = '''
from gemmule.refine.beginnings import first_bytes, whole_lines
from gemmule.refine.formats import Format, streamed


def read(blocks, name, field):
    """Lines of "name: value"."""
    for number, line in enumerate(b"".join(blocks).decode().splitlines(), start=1):
        name, _, value = line.partition(": ")
        if name == field:
            yield number, value


def records(file):
    for line in file.beginning(10_000)[0].decode().splitlines():
        yield dict([line.split(": ")])


FORMATS = (Format((".toy",), streamed(read), records, first_bytes(whole_lines), in_folders="alone"),)
'''
LINE = "poem: of a mill wheel that turns and turns\nid: 7\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A file of ours beside those of gemmule/refine/formats."""
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "toy.py").write_text(TOY)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "formats")])
    formats.by_suffix.cache_clear()
    yield
    formats.by_suffix.cache_clear()


@pytest.mark.usefixtures("toy")
def test_a_format_is_a_file(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.toy.zst").write_bytes(zstd.compress(LINE.encode() * 4000))
    (file,) = resolve(["texts"], tmp_path)
    assert text_fields([file])[0] == "poem"
    documents = list(read_documents(file, "poem"))
    assert [document.position for document in documents] == [*range(1, 8000, 2)]
    assert {document.text for document in documents} == {"of a mill wheel that turns and turns"}
    (part,), share = sample([file], "poem", tmp_path, size=70_000)
    assert share == pytest.approx(len(list(read_documents(part, "poem"))) / 4000, abs=0.001)
    assert share < 0.4
    (texts / "b.txt").write_text("plain")
    assert [file.name for file in resolve(["texts"], tmp_path)] == ["texts/b.txt"]
    (texts / "c.unknown").write_text("?")
    with pytest.raises(
        RequestError,
        match=r"known: \.txt, \.md, \.html, \.htm, \.xhtml, \.jsonl, \.parquet, \.csv, \.tsv, \.json, \.toy, \.zip, ",
    ):
        resolve(["texts/c.unknown"], tmp_path)


def test_the_formats_that_are_read(tmp_path):
    (tmp_path / "a.toy").write_text(LINE)
    known = r"\.txt, \.md, \.html, \.htm, \.xhtml, \.jsonl, \.parquet, \.csv, \.tsv, \.json, \.zip, \.tar, \.tgz, each "
    with pytest.raises(RequestError, match=r"a kind of file that isn't read; known: " + known + r"also with \.gz or"):
        resolve(["a.toy"], tmp_path)
