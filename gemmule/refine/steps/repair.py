"""Text as it was meant: mojibake undone, one form for each letter, one line end, no control characters.

- Mojibake, UTF-8 that was decoded as something else ("cafÃ©"), by ftfy (Speer 2019), a line at a time, and only what it
  is sure of: a line that can't be what somebody wrote and that decodes to what can. Its guesses where a space stands
  for a lost byte ("voilÃ le travail") count only in a document that has such lines. Nothing else of ftfy is used:
  entities (AT&amp;T), quotes, ligatures, fullwidth letters and escapes (\\u00e9) stay as they are.
- Unicode's normal form C: a letter and its accent are one character wherever there is one (Unicode Standard Annex 15).
- Lines end in \\n, not in \\r\\n, \\r, or Unicode's separators of lines and paragraphs.
- Control characters other than \\t and \\n, and terminals' escape sequences, are removed. Joiners, which emoji and many
  scripts need, are none of them; nor is U+FFFD, a character that was lost.
- Byte-order marks within the text are removed.

Of source code, by the name of its file, only line ends and byte-order marks are touched: what looks like a mistake
there may be a test of one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from gemmule.refine.corpus import Corpus
from gemmule.refine.formats.plain_text import is_code
from gemmule.refine.sources import Document
from gemmule.refine.steps.extras import check_installed
from gemmule.refine.steps.step import DocumentStep, Verdict

BYTE_ORDER_MARK = "\ufeff"
SEPARATORS = ("\r", "\u2028", "\u2029")
C1 = "\x80-\x9f"

_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # colours, the cursor (ECMA-48, 5.4)
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # a window's title and other strings
    r"|[ -/]*[0-~])?"
)
_STRUCK_OVER = re.compile(r"[^\n]\x08")  # bold and underlined on a printer: "N\bN", "_\bN"
_PAGE = re.compile(r"(?<=[^\n])[\x0b\x0c](?=[^\n])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NO_CONTROL = bytes({*range(256)} - {*range(32), 127} | {9, 10})
_C1 = re.compile(f"[{C1}]")


class Repair(DocumentStep):
    """Changes documents, and drops one only if nothing of it is left."""

    name: ClassVar[str] = "repair"

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        check_installed(self.name, "ftfy")

    def judge(self, document: Document) -> Verdict:
        text, changed = repaired(document.text, code=is_code(document.source))
        counts = dict.fromkeys(changed, 1)
        if not text.strip():
            return Verdict(None, f"nothing is left without its {' and '.join(changed)}", counts=counts)
        return Verdict(replace(document, text=text) if changed else document, counts=counts)


def repaired(text: str, *, code: bool = False) -> tuple[str, list[str]]:
    """A text, repaired, and what was done to it."""
    changed = []

    def apply(kind: str, repair: Callable[[str], str]) -> None:
        nonlocal text
        before, text = text, repair(text)
        if text != before and kind not in changed:
            changed.append(kind)

    def tidy() -> None:
        apply("byte-order marks", lambda text: text.replace(BYTE_ORDER_MARK, ""))
        apply("line ends", _with_line_ends if not code else _with_line_feeds)
        if not code:
            apply("control characters", _without_controls)
            apply("unicode form", _normal_form)

    tidy()
    if not code and not text.isascii():
        apply("mojibake", _without_mojibake)
        apply("control characters", lambda text: _C1.sub("", text))
        if "mojibake" in changed:
            tidy()
    return text, changed


def _with_line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _with_line_ends(text: str) -> str:
    for separator in ("\r\n", *SEPARATORS):
        text = text.replace(separator, "\n")
    return text


def _normal_form(text: str) -> str:
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def _without_controls(text: str) -> str:
    if not text.encode("utf-8", "surrogatepass").translate(None, _NO_CONTROL):
        return text
    text = _TERMINAL.sub("", text)
    while "\x08" in text and (struck := _STRUCK_OVER.sub("", text)) != text:
        text = struck
    return _CONTROL.sub("", _PAGE.sub("\n", text))


def _without_mojibake(text: str) -> str:
    """A search for what mojibake has in two characters finds the few lines that ftfy has to look at."""
    starts = sorted({text.rfind("\n", 0, match.start()) + 1 for match in _suspicious().finditer(text)})
    pieces, behind, sure = [], 0, False
    for start in starts:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line, was_utf8 = _decoded(text[start:end], restore_spaces=False)
        pieces += [text[behind:start], line]
        behind, sure = end, sure or was_utf8
    text = "".join([*pieces, text[behind:]])
    if not sure:
        return text
    lines = text.split("\n")
    return "\n".join(line if line.isascii() else _decoded(line, restore_spaces=True)[0] for line in lines)


def _decoded(line: str, *, restore_spaces: bool) -> tuple[str, bool]:
    """A line without mojibake; and whether there was some, of UTF-8."""
    from ftfy import fix_encoding_and_explain

    fixed, steps = fix_encoding_and_explain(line, _settings(restore_spaces))
    return fixed, any(name.startswith("utf-8") or name == "decode_inconsistent_utf8" for _, name in steps or ())


@cache
def _settings(restore_spaces: bool) -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(restore_byte_a0=restore_spaces)


@cache
def _suspicious() -> re.Pattern[str]:
    """A first byte of UTF-8 and one that goes on, as the encodings that ftfy knows show them; or a C1 character."""
    from ftfy.chardata import UTF8_CLUES

    first = "".join(UTF8_CLUES[f"utf8_first_of_{count}"] for count in (2, 3, 4))
    after = UTF8_CLUES["utf8_continuation"].replace(" ", "")
    return re.compile(f"[{C1}]|[{first}][{after}]|[√≈‚·ß├┬┼╬╨╤][^\\x00-\\x7f\\s]")
