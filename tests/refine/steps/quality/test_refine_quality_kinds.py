"""What rules made for web pages must not take from text that is none."""

from pathlib import Path

import pytest

from gemmule.recipe.refining import Quality
from gemmule.refine.sources import BUNDLED, Document, read_documents, resolve
from gemmule.refine.steps.quality import QualityRules

RULES = QualityRules(Quality(allowances="all"))
AS_THEY_ARE = QualityRules(Quality())
AS_PAGES = QualityRules(Quality(allowances="none"))
PROBLEM = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?\n"
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)
PROBLEMS = [  # of GSM8K (Cobbe et al. 2021)
    "John fills a 6 foot by 4 foot pool that is 5 feet deep.  It cost $.1 per cubic foot to fill.  How much does it"
    " cost to fill?",
    "Jerry is rolling a six-sided die. How much more likely is it (expressed as a percentage) that he rolls a"
    " number greater than 3 than that he rolls two even numbers in a row?",
    "There are 27 unicorns left in the world.  One third of them are in the Scottish Highlands.  Two thirds of the"
    " Scottish unicorns are female.  How many female Scottish unicorns are there?",
    "John does 30 cycles of work a day.  Each cycle has 5 different tasks and each task pays $1.20.  How much does"
    " he make if he works a full 7 day week?",
    "John packs M&M in small bags to eat.  He buys 3 large bags weighing 10 ounces each.  If an ounce of M&M has 30"
    " M&M in it how many small bags can he make if he puts 10 in each small bag?",
    "Miguel uses 2 pads of paper a week for his drawing. If there are 30 sheets of paper on a pad of paper, how"
    " many sheets of paper does he use every month?",
    "Marin and his neighbor Nancy each eat 4 apples a day. How many apples do they eat in 30 days?",
    "If John scored 100 on his first 3 tests and an 80 on his 4th, what was his average score across the 4 tests?",
]
RECIPE = """Pancakes

2 eggs
200 g flour
1/2 l milk
Salt

Beat the eggs with the milk. Add the flour and a little salt, and stir until it is smooth. Let it rest for an hour.
Fry thin cakes of it in hot butter. Serve them with sugar and the juice of a lemon."""
DIALOGUE = """ANNA: Where is the key?
BEN: In the door.
ANNA: It is not there.
BEN: Then I have it.
ANNA: Do you?
BEN: No.
ANNA: Who was the last to leave?
BEN: You were.
ANNA: I was not. I went out with you.
BEN: With me?
ANNA: Yes, by the back door.
BEN: Then it is in the back door."""
VERSE = """So, we'll go no more a roving
  So late into the night,
Though the heart be still as loving,
  And the moon be still as bright.

For the sword outwears its sheath,
  And the soul wears out the breast,
And the heart must pause to breathe,
  And love itself have rest.

Though the night was made for loving,
  And the day returns too soon,
Yet we'll go no more a roving
  By the light of the moon."""
MATHEMATICS = (
    "Let $f$ be the function that is given by $\\frac{x}{2}$ for all real numbers. Then it is clear that the sum of "
    "its values at the first ten numbers is a half of what we would have had with the identity, and so it is the half "
    "of 55. We see that this is true of any number of terms. The proof is left to the reader."
)
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いて"
    "いた事だけは記憶している。吾輩はここで始めて人間というものを見た。しかもあとで聞くとそれは書生という人間中で一番"
    "獰悪な種族であったそうだ。この書生というのは時々我々を捕えて煮て食うという話である。"
)
GERMAN = (
    "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu einem "
    "ungeheueren Ungeziefer verwandelt. Er lag auf seinem panzerartig harten Rücken und sah, wenn er den Kopf "
    "ein wenig hob, seinen gewölbten, braunen, von bogenförmigen Versteifungen geteilten Bauch. Seine vielen, "
    "im Vergleich zu seinem sonstigen Umfang kläglich dünnen Beine flimmerten ihm hilflos vor den Augen. Was "
    "ist mit mir geschehen? dachte er. Es war kein Traum. Sein Zimmer lag ruhig zwischen den vier "
    "wohlbekannten Wänden."
)
ITALIAN = (
    "Il sito è una guida per chi non ha mai visto la città. Dice che la torre è del Trecento e che non è la più alta."
)
COUPLET = """The day was long, the road was hard,
And no one came along,
But in the hedge behind the yard
A blackbird sang its song."""
CODE = "def f(x):\n    return {\n        'a': x,\n    }\n"


@pytest.mark.parametrize(
    "text",
    [PROBLEM, RECIPE, DIALOGUE, VERSE, MATHEMATICS, JAPANESE, JAPANESE[:40], GERMAN, ITALIAN, COUPLET],
    ids=["problem", "recipe", "dialogue", "verse", "maths", "Japanese", "short", "German", "Italian", "couplet"],
)
def test_what_a_person_would_keep_stays_as_it_is(text):
    for source in ("a.jsonl", "a.txt"):
        assert RULES.judge(Document(text, source, 1)).document == Document(text, source, 1)


@pytest.mark.parametrize("text", [PROBLEM, DIALOGUE, MATHEMATICS])
def test_pages_are_judged_as_datatrove_does_and_so_is_all_where_the_rules_are_asked_for_as_they_are(text):
    assert RULES.judge(Document(text, "a.html", 1)).document is None
    assert AS_THEY_ARE.judge(Document(text, "a.jsonl", 1)).document is None
    assert AS_PAGES.judge(Document(text, "a.jsonl", 1)).document is None


@pytest.mark.parametrize(("text", "source"), [(JAPANESE, "a.html"), (GERMAN, "a.html"), ("x = {1: 2}\n" * 9, "a.py")])
def test_other_languages_and_code_are_spared_what_is_for_english_prose(text, source):
    assert AS_THEY_ARE.judge(Document(text, source, 1)).document is not None
    assert AS_PAGES.judge(Document(text, source, 1)).document is None


REVIEW = """This film is a joy from its first minute to its last, and I would see it again at any time.

The man who plays the old captain is better than in all that he has made before, with the one exception of The Harbour.

It is true that the end comes too soon, but who would not want more of what is so good?

My children, who are ten and twelve, laughed so loudly that the people behind us had to laugh with them.

Go and see it before it is gone from the cinemas: on a small screen you would miss half of what there is.

The music is by a man of whom I had not heard, and I have been at his songs ever since.

It was the best evening that we have had this year."""


def test_lines_and_blank_lines_may_end_in_a_space():
    spaced = REVIEW.replace("\n", " \n") + " "
    for source in ("a.jsonl", "a.html"):
        assert RULES.judge(Document(REVIEW, source, 1)).document is not None
    assert (
        RULES.judge(Document(spaced, "a.html", 1)).reason == "repetition: 0.38 of the lines are repeated, more than 0.3"
    )
    assert RULES.judge(Document(spaced, "a.jsonl", 1)).document == Document(spaced, "a.jsonl", 1)


@pytest.mark.parametrize(("source", "kept"), [("a.py", True), ("src/a.rs.gz", True), ("a.html", False)])
def test_source_code_is_left_alone(source, kept):
    assert (RULES.judge(Document(CODE, source, 0)).document is not None) == kept
    assert AS_PAGES.judge(Document(CODE, source, 0)).document is None


@pytest.mark.parametrize(
    "text",
    [
        "Home\nAbout us\nContact\nLogin\nCart",
        "cheap shoes buy online best price shoes sale discount " * 3,
        "xqzj wpfk jjkd qowu zzmv kwpq rtyx " * 12,
        "Buy now. " * 30,
        "we to of in who up at and if on by " * 8,
        "This page is " + "very " * 60 + "long.",
    ],
)
def test_what_is_no_text_goes_all_the_same(text):
    assert RULES.judge(Document(text, "a.jsonl", 1)).document is None


def test_the_language_decides_where_it_is_known():
    text = "Come here, said every old man near this house by our great lake, when no one else came near. " * 3
    spaced = " ".join(f"{sentence} {number}" for number, sentence in enumerate(text.split(". ")))
    assert "gopher.min_stop_words" in RULES.explain(Document(spaced, "a.txt", 0)).figures
    figures = RULES.explain(Document(spaced, "a.txt", 0, "de")).figures
    assert str(figures["gopher.min_stop_words"]).endswith("but this is not in English")


def test_speakers_headings_and_blank_lines_stay_and_notices_go():
    notice = "Please enable JavaScript to view this page."
    verdict = RULES.judge(Document(f"{VERSE}\n\n{notice}\n\nBYRON\n{PROBLEM}", "a.txt", 0))
    assert verdict.document is not None
    assert verdict.document.text == f"{VERSE}\n\n\nBYRON\n{PROBLEM}"
    assert verdict.counts["lines: filter_javascript"] == 1


def test_a_text_about_javascript_keeps_its_lines():
    text = "\n".join(
        f"JavaScript has the keyword {name}, which is of use to those that have a loop." for name in "abcdef"
    )
    document = Document(text, "a.txt", 0)
    lines = QualityRules(Quality(gopher=False, repetition=False, fineweb=False)).judge(document)
    assert lines.document is None or lines.document.text == text


def test_nothing_of_shakespeare_is_dropped_or_changed():
    documents = [each for file in resolve([BUNDLED], Path()) for each in read_documents(file)]
    assert len(documents) > 50
    for document in documents:
        assert RULES.judge(document).document == document


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problems_stay(problem):
    assert AS_PAGES.judge(Document(problem, "a.jsonl", 1)).document is None
    assert RULES.judge(Document(problem, "a.jsonl", 1)).document == Document(problem, "a.jsonl", 1)
