"""Each rule on a text whose figure is counted by hand, as a web page; datatrove gives the same decisions
(benchmarks/refining_rules.py)."""

import pickle

import pytest

from gemmule.recipe.refining import C4, FineWeb, Gopher, Quality, Repetition
from gemmule.refine.sources import Document
from gemmule.refine.steps.quality import QualityRules

OFF = {"gopher": False, "repetition": False, "c4": False, "fineweb": False}
SENTENCES = [
    "The harbour of the old town is open to ships from every part of the coast, and it has been for centuries.",
    "Visitors who come with a car have to leave it outside the walls, where a small bus waits for them.",
    "Most of the houses near the water were built by fishermen that sold their catch in the morning market.",
    "In winter the wind blows hard and the cafés close early; in summer nobody goes to bed before midnight.",
    "A museum in the former customs house shows maps, letters and the oldest lighthouse lamp of the region.",
    "Its keeper, a retired captain, likes to tell how he once sailed around the world with his two daughters.",
]
PROSE = "\n".join(SENTENCES)


def page(text: str) -> Document:
    return Document(text, "a.html", 0)


def reason(text: str, **sets: object) -> str:
    """Why a page is dropped by the sets that are given; empty if it is kept."""
    verdict = QualityRules(Quality(**{**OFF, **sets})).judge(page(text))
    assert (verdict.document is None) == bool(verdict.reason)
    return verdict.reason


def test_prose_is_kept_as_it_is():
    rules = QualityRules(Quality())
    verdict = rules.judge(page(PROSE))
    assert verdict.document == page(PROSE)
    assert verdict.counts == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("It is of the sea. " * 9, "45 words, fewer than 50"),
        ("A I o u be to " * 20, "1.33 letters a word, less than 3"),
        ("Incomprehensibilities of internationalization to " * 13, "11.25 letters a word, more than 10"),
        ("#the #end of that " * 20, "0.33 # a word, more than 0.1"),
        ("the end of that … " * 20, "0.20 ellipses a word, more than 0.1"),
        ("- the end of that day\n" * 20, "1.00 of the lines are bullet points, more than 0.9"),
        ("the end of that long day in the hot sun...\n" * 20, "1.00 of the lines end in an ellipsis, more than 0.3"),
        ("the end of that 100 " * 12 + "100 the ", "0.79 of the words have a letter, less than 0.8"),
        ("Come here, said every old man near this house. " * 6, "0 of the commonest English words, fewer than 2"),
    ],
)
def test_gopher(text, why):
    assert reason(text, gopher=True) == f"gopher: {why}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("one\n\ntwo\n\none", "0.33 of the paragraphs are repeated, more than 0.3"),
        ("a long one\n\nb\n\nc\n\na long one", "0.36 of the text is repeated paragraphs, more than 0.2"),
        ("one\nthree four\none", "0.33 of the lines are repeated, more than 0.3"),
        ("a long one\nb\nc\na long one", "0.40 of the text is repeated lines, more than 0.2"),
        ("go on. go on, go on! stop", "0.60 of the text is one phrase of 2 words, more than 0.2"),
    ],
)
def test_repetition(text, why):
    assert reason(text, repetition=True) == f"repetition: {why}"


def test_repeated_phrases():
    """Words of one letter: of 100 in a row 20 stood there before, at the end, in whole runs of 5 to 10 words."""
    first = "".join(chr(0x4E00 + number) + " " for number in range(80))  # each another
    text = (first + first[:40]).replace(" ", "x ").strip()
    share = 40 / len(text)
    assert share == pytest.approx(0.134, abs=1e-3)
    limits = Repetition(dup_n_grams=[(5, 0.13)], top_n_grams=[])
    assert (
        reason(text, repetition=limits)
        == "repetition: 0.134 of the text is repeated phrases of 5 words, more than 0.13"
    )
    assert reason(text, repetition=Repetition(dup_n_grams=[(5, 0.14)], top_n_grams=[])) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("One here is. Two are here.", "2 sentences, fewer than 5"),
        (f"{PROSE}\nLorem ipsum dolor sit.", '"lorem ipsum" in 1 line'),
        (f"{PROSE}\nif (a > 3) {{\nb in {{ c", '"{" in 2 lines'),
    ],
)
def test_c4(text, why):
    assert reason(text, c4=True) == f"c4: {why}"


def test_c4_removes_lines_of_a_page():
    litter = (
        "Two words\n  \nPlease enable JavaScript to see this.\nOur site uses cookies, as you know.\nlong " + "x" * 1001
    )
    verdict = QualityRules(Quality(**{**OFF, "c4": True})).judge(page(f"{litter}\n{PROSE} See [1] for [edit] more."))
    assert verdict.document == page(f"{PROSE} See  for  more.")
    assert verdict.counts == {
        "lines: min_words_per_line": 2,
        "lines: filter_javascript": 1,
        "lines: filter_policy": 1,
        "lines: max_word_length": 1,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PROSE.replace(".", ""), "0.00 of the lines end a sentence, less than 0.12"),
        ("A short line.\n" * 3 + SENTENCES[0], "0.75 of the lines have at most 30 characters, more than 0.67"),
        (f"{PROSE}\n{SENTENCES[0]}", "0.15 of the text is repeated lines, more than 0.01"),
        (
            "This line has more characters than thirty\n\nand so has this other line, has not it?\n\n\n\n",
            "0.33 line ends a word, more than 0.3",
        ),
    ],
)
def test_fineweb(text, why):
    assert reason(text, fineweb=True) == f"fineweb: {why}"


def test_a_space_at_a_lines_end_hides_no_full_stop():
    assert reason(PROSE.replace(".\n", ". \n") + " ", fineweb=True) == ""


def test_a_table_tunes_a_set():
    text = "That is of the olden sea. " * 9
    assert reason(text, gopher=Gopher(min_doc_words=54)) == ""
    assert reason("One here is.", c4=C4(min_num_sentences=-1)) == ""
    assert reason(PROSE.replace(".", ""), fineweb=FineWeb(line_punct_thr=0)) == ""


def test_every_figure_is_explained():
    rules = QualityRules(Quality())
    verdict = rules.explain(page("Far too short."))
    assert verdict.reason == "gopher: 3 words, fewer than 50"
    assert verdict.document is None
    assert verdict.figures["gopher.min_doc_words"] == "3 words, fewer than 50"
    assert verdict.figures["gopher.max_doc_words"] == "3 words (at most 100,000)"
    assert verdict.figures["c4.min_num_sentences"] == "1 sentences, fewer than 5"
    assert verdict.figures["fineweb.line_punct_thr"] == "1.00 of the lines end a sentence (at least 0.12)"
    assert len(verdict.figures) == 30
    assert rules.judge(page(PROSE)).figures == {}
    assert len(rules.explain(page(PROSE)).figures) == 30


def test_it_goes_to_other_processes():
    rules = pickle.loads(pickle.dumps(QualityRules(Quality())))
    assert rules.judge(page("Far too short.")).reason == "gopher: 3 words, fewer than 50"
