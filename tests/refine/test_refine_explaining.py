"""What `gemmule refine` prints at its end, and for --explain."""

import pytest
from made_refinery import step

from gemmule.refine.explaining import Opinion, lines, show_all, show_explained, table_lines

OPINIONS = [
    Opinion("repair", "changed", figures={"mojibake": 2}),
    Opinion("languages", "kept", figures={"language": "en", "probability": 0.98771}),
    Opinion(
        "quality", "dropped", "gopher: 1,200 words, fewer than 5,000", {"words": 1200, "mean_word_length": 4.72344}
    ),
    Opinion("near_duplicates", "not reached"),
]


def test_a_line_says_what_each_step_makes_of_a_document():
    assert lines("texts/a.txt:0", OPINIONS) == [
        "texts/a.txt:0: dropped by quality: gopher: 1,200 words, fewer than 5,000",
        "  repair           changed",
        "                   mojibake 2",
        "  languages        kept",
        "                   language en, probability 0.9877",
        "  quality          dropped      gopher: 1,200 words, fewer than 5,000",
        "                   words 1,200, mean word length 4.723",
        "  near_duplicates  not reached",
    ]


def test_many_figures_have_a_line_each():
    figures = {"gopher.min_doc_words": "272 words (at least 50)", "a": 1, "b": 2.0, "c": 1_000, "d": "x\ny"}
    assert lines("a:0", [Opinion("quality", "kept", figures=figures)])[2:] == [
        "           gopher.min_doc_words  272 words (at least 50)",
        "           a                     1",
        "           b                     2",
        "           c                     1,000",
        "           d                     x\\ny",
    ]


def test_what_becomes_of_it_stands_first():
    assert lines("a:0", OPINIONS[1:2])[0] == "a:0: kept as it is"
    assert lines("a:0", OPINIONS[:2])[0] == "a:0: kept, changed by repair"
    assert lines("a:0", [Opinion("minus", "dropped", "the same", matched="old.txt:9")])[1:] == [
        "  minus  dropped      the same; like old.txt:9"
    ]
    assert lines("a:0", []) == ["a:0: kept as it is"]


def test_nothing_that_a_document_holds_moves_the_cursor():
    hostile = "\x1b[2Jx\ny\t\u202e"
    opinion = Opinion(hostile, "dropped", hostile, {hostile: hostile}, hostile)
    shown = "\n".join(lines(hostile, [opinion]))
    assert shown.count("\n") == 2
    assert not {"\x1b", "\t", "\u202e"} & set(shown)
    assert shown.count("\\x1b[2Jx\\ny\\t\\u202e") == 9


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_shown_as_lines_or_as_a_table(terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    show_explained("texts/[red]a.txt:0", OPINIONS)
    shown = capsys.readouterr().out
    assert "texts/[red]a.txt:0: dropped by quality" in shown
    assert "gopher: 1,200 words, fewer than 5,000" in shown
    assert ("│" in shown) is terminal
    if not terminal:
        assert shown.splitlines() == lines("texts/[red]a.txt:0", OPINIONS)


def test_of_several_documents_each_has_a_line(capsys):
    show_all([("a:0", OPINIONS), ("a:9", OPINIONS[:1])])
    assert capsys.readouterr().out.splitlines() == [
        "a:0: dropped by quality: gopher: 1,200 words, fewer than 5,000",
        "a:9: kept, changed by repair",
    ]
    show_all([("a:0", OPINIONS)])
    assert capsys.readouterr().out.splitlines() == lines("a:0", OPINIONS)


def test_the_table_adds_up():
    record = {
        "steps": [
            step("repair", (20_000, 20_000), (9_000_000, 9_000_100), changed=312),
            step("near_duplicates", (20_000, 19_999), (9_000_100, 8_000_000)),
            step("keep", (19_999, 9_999), (8_000_000, 4_500_000)),
        ]
    }
    assert table_lines(record) == [
        "step                 in     out  dropped         changed  bytes out",
        "repair           20,000  20,000                      312  9 MB",
        "near_duplicates  20,000  19,999        1  <0.1%           8 MB",
        "keep             19,999   9,999   10,000  50.0%           4.5 MB",
        "in all           20,000   9,999   10,001  50.0%           4.5 MB of 9 MB (50.0%)",
    ]
    assert table_lines({"steps": []})[1] == "in all   0    0                      0 B of 0 B (–)"
