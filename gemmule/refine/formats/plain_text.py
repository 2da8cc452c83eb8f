"""Plain text: a file is one text, and a long one is cut into documents. Source code is read where it is named."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from gemmule.base.encodings import BYTE_ORDER_MARK, nul_byte, wrong_bytes
from gemmule.refine.beginnings import first_bytes, whole_lines
from gemmule.refine.cutting import cut
from gemmule.refine.formats import Format, streamed
from gemmule.refine.records import Texts
from gemmule.refine.source_file import SourceFile

MARKUP = (".adoc", ".org", ".po", ".rst", ".srt", ".tex")
CODE = (
    ".asm", ".bash", ".c", ".cc", ".clj", ".cpp", ".cs", ".css",
    ".cu", ".cxx", ".dart", ".el", ".erl", ".ex", ".exs", ".f90", ".go", ".h", ".hpp", ".hs", ".java", ".jl", ".js",
    ".jsx", ".kt", ".lean", ".lisp", ".lua", ".m", ".ml", ".nim", ".php", ".pl", ".pm", ".proto", ".py", ".pyi", ".r",
    ".rb", ".rs", ".s", ".scala", ".scm", ".sh", ".sql", ".swift", ".tcl", ".ts", ".tsx", ".v", ".vb", ".vhd", ".vim",
    ".zig",
)  # fmt: skip
CODE_AND_MARKUP = MARKUP + CODE


@lru_cache(maxsize=64)
def is_code(source: str) -> bool:
    """Whether a document is source code, by the name of the file that it is from."""
    return SourceFile(Path(source), source).suffix in CODE


def read_plain(blocks: Iterable[bytes], name: str, field: str = "") -> Texts:
    """The documents of a text; the position is the byte offset. A byte-order mark at the beginning is no text."""
    line = 1
    for offset, content in cut(blocks):
        if offset == 0 and content.startswith(BYTE_ORDER_MARK):
            offset, content = len(BYTE_ORDER_MARK), content.removeprefix(BYTE_ORDER_MARK)
        try:
            text = content.decode()
            if (place := content.find(b"\0")) < 0:
                yield offset, text
            else:
                yield offset, nul_byte(_place(name, line, offset, content, place))
        except UnicodeDecodeError as error:
            yield offset, wrong_bytes(error, _place(name, line, offset, content, error.start))
        line += content.count(b"\n")


def _place(name: str, line: int, offset: int, content: bytes, place: int) -> str:
    before = content.count(b"\n", 0, place)
    return f"{name}, line {line + before} (byte {offset + place})"


def _whole_lines_or_characters(content: bytes) -> bytes:
    return whole_lines(content) or content.decode("utf-8", "ignore").encode()


FORMATS = tuple(
    Format(
        suffixes,
        streamed(read_plain),
        beginning=first_bytes(_whole_lines_or_characters),
        in_folders="always" if suffixes == (".txt", ".md") else "named",
        in_documents=True,
    )
    for suffixes in ((".txt", ".md"), CODE_AND_MARKUP)
)
