"""Repair: what is mended and what stays as it is."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmule.base.errors import RequestError
from gemmule.refine.sources import Document, read_documents, resolve
from gemmule.refine.steps.repair import Repair, repaired

ENCODINGS = ("latin-1", "cp1252", "cp1251", "mac_roman", "cp437")
SENTENCES = (
    "Le café où l’été s’achève, à Nîmes.", "Größe über alles: 12 °C", "«¿Qué pasó, señor Muñoz?»", "São João — às três",
    "Съешь ещё этих мягких французских булок", "日本語の文章です。", "Tiếng Việt", "naïve “quotes” – and €5",
)  # fmt: skip


def mojibake(text: str, encoding: str) -> str | None:
    """UTF-8 read as something else, where that has a character for each byte."""
    try:
        return text.encode().decode(encoding)
    except UnicodeDecodeError:
        return None


WRONG = [(wrong, text) for text in SENTENCES for encoding in ENCODINGS if (wrong := mojibake(text, encoding))]


@pytest.mark.parametrize("wrong", [wrong for wrong, _ in WRONG])
def test_lines_that_ftfy_mends_are_found(wrong):
    """ftfy looks at all of a text; here it is asked only about lines with a pair of characters that it could mend."""
    line = ftfy.fix_encoding(wrong)
    assert repaired(f"one\n{wrong}\ntwo") == (f"one\n{line}\ntwo", ["mojibake"] if line != wrong else [])


def test_most_mojibake_is_mended():
    assert len(WRONG) == 37
    assert sum(repaired(wrong)[0] == text for wrong, text in WRONG) >= 34


@pytest.mark.parametrize(
    ("text", "expected", "kinds"),
    [
        ("cafÃ©", "café", ["mojibake"]),  # CASES.md
        ("日本語 cafÃ© と", "日本語 café と", ["mojibake"]),
        ("cafÃ©\nvoilÃ le travail", "café\nvoilà le travail", ["mojibake"]),
        ("\x93Yes\x94, \x81he said\x85", "“Yes”, he said…", ["mojibake", "control characters"]),
        ("Cafe\u0301, Vie\u0323\u0302t, \u1112\u1161\u11ab", "Café, Việt, 한", ["unicode form"]),
        ("a\r\nb\rc\u2028d\u2029e\n", "a\nb\nc\nd\ne\n", ["line ends"]),
        ("a\x00b\x07c\x7f\td", "abc\td", ["control characters"]),
        ("one\x0ctwo\n\x0cthree\x0b\n", "one\ntwo\nthree\n", ["control characters"]),
        ("\x1b[1;31mred\x1b[0m, \x1b]0;title\x07text", "red, text", ["control characters"]),
        ("N\x08NA\x08AM\x08ME\x08E _\x08x", "NAME x", ["control characters"]),
        ("\ufeffone \ufefftwo", "one two", ["byte-order marks"]),
        ("ï»¿one Ã©", "one é", ["mojibake", "byte-order marks"]),
        ("\ufeffcafÃ©\r\n", "café\n", ["byte-order marks", "line ends", "mojibake"]),
    ],
)
def test_is_mended(text, expected, kinds):
    assert repaired(text) == (expected, kinds)
    assert repaired(expected) == (expected, [])


@pytest.mark.parametrize(
    "text",
    [
        # CASES.md
        "AT&T, AT&amp;T, &eacute; &lt;b&gt; &#233;",
        "avó\navô\nÃ\nmaçã\nNÃO\nIRMÃ\nÃ, til",
        'escaped = "\\u00e9 \\xc3\\xa9"',
        # what ftfy would change by its defaults
        "“curly” ‘quotes’ ﬁnd ﬂow ＬＯＵＤ ﾊﾝｶｸ　全角 … №",
        "voilÃ le travail",
        "a lone \ufffd here",
        # scripts, joiners, signs
        "👩‍👩‍👧‍👦 ❤️ 🏴󠁧󠁢󠁷󠁬󠁳󠁿 (╯°□°)╯︵ ┻━┻ ¯\\_(ツ)_/¯",
        "می‌خواهم, क्‍ष, สวัสดี\u200bครับ, \u200fעברית",
        "Tiếng Việt có dấu: ắ ằ ẳ ẵ ặ Ă Â Ê Ô Ơ Ư Đ",
        "ÀÁÂÃÄÅ àáâãäå ÈÉÊË × ÷ ± ² ³ µ ¶ § © ® ™ † ‡ • € £ ¥ ¢",
        "Das »Ü«, die „Ö“ – ÄÖÜ; «Été» ; ¿Qué? ¡Olé! 100 °C",
        "Привет, «мир» — ещё №5. Γειά σου. ŁÓDŹ, ŠKODA, ÇOK ŞÜKÜR",
        "x² + y² = r², 5 × 3 ≠ 16, √2 ≈ 1.414, ∫∂",
        "│ a │ b │\n├───┼───┤",
    ],
)
def test_stays(text):
    assert repaired(text) == (text, [])


def document(text: str, source: str = "a.txt") -> Document:
    return Document(text, source, 5)


def test_source_code_stays_but_for_line_ends_and_byte_order_marks():
    code = 'assert fix("cafÃ©") == "cafe\u0301"\x0c  # \x1b[0m \u2028'
    assert Repair().judge(document(code, "a.py")).document == document(code, "a.py")
    verdict = Repair().judge(document(f"\ufeff{code}\r\n", "b.C.zst"))
    assert verdict.document == document(f"{code}\n", "b.C.zst")
    assert verdict.counts == {"byte-order marks": 1, "line ends": 1}
    assert Repair().judge(document("cafÃ©", "a.rst")).document == document("café", "a.rst")


def test_counts_documents():
    verdict = Repair().judge(document("Ã© Ã© Ã©\r\nÃ©\r\n"))
    assert verdict.document == document("é é é\né\n")
    assert verdict.counts == {"line ends": 1, "mojibake": 1}
    untouched = document("Nothing to do: ça va.")
    assert Repair().judge(untouched).document is untouched


def test_drops_what_nothing_is_left_of():
    verdict = Repair().judge(document("\x00\x1b[0m\ufeff\n"))
    assert verdict.document is None
    assert verdict.reason == "nothing is left without its byte-order marks and control characters"


def test_shakespeare_stays():
    for file in resolve(["gemmule:shakespeare"], Path()):
        for each in read_documents(file):
            assert Repair().judge(each).document is each


def test_a_long_line():
    text = ("日本語 " * 1000 + "cafÃ© ") * 30
    assert repaired(text)[0] == text.replace("Ã©", "é")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aÃÂ©â€™Â\xa0 \x93\x85\n\r\x0b\x0c\x08\x1b[m\ufeff\u0301e\u2028ðŸ˜\x80\ufffdÐŸ漢")))
def test_a_second_pass_changes_nothing(text):
    once, kinds = repaired(text)
    assert repaired(once) == (once, [])
    assert (once != text) == bool(kinds)
    assert unicodedata.is_normalized("NFC", once)
    assert not set(once) & set("\r\x0b\x0c\x08\x1b\ufeff\x93\x85\u2028")


def test_goes_to_other_processes():
    assert pickle.loads(pickle.dumps(Repair())).judge(document("Ã©")).document == document("é")


def test_a_missing_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"refine.repair: needs ftfy: pip install 'gemmule\[refine\]'"):
        Repair().prepare(tmp_path, None)


def test_records_in_json_keep_their_escapes():
    text = json.dumps({"text": "café ☃"})
    assert repaired(text) == (text, [])
