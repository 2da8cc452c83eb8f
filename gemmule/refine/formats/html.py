"""HTML: a page's main text, without its menus, asides and comments, as trafilatura finds it (Barbaresi, ACL 2021).

Its settings are FineWeb's (arXiv 2406.17557, section 3.2): precision before recall, so that less boilerplate stays.
Pages say in which encoding they are, and are read as browsers read them (whatwg.org, "Encoding"): what is invalid in it
becomes U+FFFD. Extraction takes milliseconds a page: it is a function of the markup alone, for any process to call.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable
from typing import Any

from gemmule.base.encodings import REPLACEMENT, BadRecord, EmptyFile, what_it_is, wrong_bytes
from gemmule.base.errors import RequestError
from gemmule.refine.formats import Format, OnInvalid
from gemmule.refine.records import Texts
from gemmule.refine.source_file import SourceFile

LARGEST = 2**24  # bytes of a page: the tree that is made of it is many times as large
DECLARED = re.compile(rb"""<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
LOOKED_AT = 4096  # bytes in which an encoding is declared; the standard has 1024, which many pages overrun
TAG = re.compile(r"<[A-Za-z!?/]")
MEANT = {  # what browsers read where a page declares the former
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs",
}  # fmt: skip
LABELS = {"x-sjis": "cp932", "windows-31j": "cp932", "x-gbk": "gb18030", "x-euc-jp": "euc_jp", "x-cp1251": "cp1251"}
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_html(file: SourceFile, field: str, on_read: Callable[[int], object], on_invalid: OnInvalid) -> Texts:
    """The markup of a page; the position is 0. Raises BadRecord for what is no page."""
    _trafilatura(file.name)  # or it would be missed only where the text is extracted
    content = bytearray()
    for block in file.blocks(on_read):
        content += block
        if len(content) > LARGEST:
            raise BadRecord(f"{file.name}: longer than {LARGEST // 10**6} MB, too long for a page")
    if not content.strip():
        raise EmptyFile(f"{file.name}: holds no text; leave it out of the sources")
    markup = decoded(bytes(content), file.name, replace=on_invalid is not None)
    if on_invalid is not None and REPLACEMENT in markup:
        on_invalid(markup.count(REPLACEMENT))
    if not TAG.search(markup):
        raise BadRecord(f"{file.name}: not HTML: there is no tag in it")
    yield 0, markup


def decoded(content: bytes, name: str, replace: bool = False) -> str:
    """A page as text: by its mark, or as UTF-8 if it is that, or as it declares.

    Raises BadRecord for one that is none of these, unless `replace`: which one it is would be a guess, and a wrong one
    gives text in another language.
    """
    for mark, encoding in MARKS.items():
        if content.startswith(mark) and not content.startswith(codecs.BOM_UTF32_LE):
            return content[len(mark) :].decode(encoding, "replace").replace("\0", "")
    if (kind := what_it_is(content)) is not None:
        raise BadRecord(f"{name}: {kind}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        declared = DECLARED.search(content[:LOOKED_AT])
        encoding = _python_name(declared[1].decode()) if declared else ""
        if not encoding and not replace:
            raise BadRecord(f"{wrong_bytes(error, name)}; or declare it: <meta charset=...>") from None
        text = content.decode(encoding or "utf-8", "replace")
    return text.replace("\0", "")


def _python_name(label: str) -> str:
    """Of a declared encoding; empty for one that is none."""
    try:
        name = codecs.lookup(LABELS.get(label.lower(), label)).name
        "a".encode(name)  # a LookupError for what encodes other things than text
    except (LookupError, ValueError):
        return ""
    return "utf-8" if name.startswith(("utf-16", "utf-32")) else MEANT.get(name, name)


def main_text(markup: str) -> str:
    """Of a page; empty if it has none."""
    text: str | None = _trafilatura("HTML").extract(markup, include_comments=False, favor_precision=True)
    return text or ""


def _trafilatura(name: str) -> Any:
    """The library, which a page of this name needs."""
    try:
        import trafilatura
    except ImportError as error:
        raise RequestError(f"{name}: HTML needs {error.name or 'trafilatura'}: pip install 'gemmule[refine]'") from None
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it tells of each page without text
    return trafilatura


FORMATS = (Format((".html", ".htm", ".xhtml"), read_html, in_folders="instead", extract=main_text),)
