"""Kinds of text that rules made for web pages misjudge, and which rules those are.

How they are known was tried on Shakespeare, GSM8K, fortune's quotations, pages, documentation and code.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePath

from gemmule.refine.formats.plain_text import CODE_AND_MARKUP
from gemmule.refine.steps.quality import repetition
from gemmule.refine.steps.quality.checks import Check, Text
from gemmule.refine.steps.quality.words import SENTENCE_ENDS, SPACELESS

PAGES = (".html", ".htm", ".xhtml")
LABEL = re.compile(r"\s*([A-Z][\w.' -]{0,30}?)(?:\t|:\s|:$|\.\s+(?=[A-Z]))")  # "HAMLET\t", "First Lord:", "Ham. "
SENTENCE_END = re.compile(rf"(?<![.\s])[{SENTENCE_ENDS}][\"'”’)\]*_]*(?:\s|$)|[。！？]")
SENTENCE_START = re.compile(rf"(?:^|[{SENTENCE_ENDS}][\"'”’)\]*_]*\s)\W*(\w)")
LONG_SENTENCE = 50  # words
ENGLISH = (  # noqa: SIM905
    "a about after all am an and any are as at be because been before but by can could did do does each for from had "
    "has have he her him his how i if in into is it its many may me more much my no not of on one or our out she "
    "should so some than that the their them then there these they this to two was we were what when which who will "
    "with would you your"
).split()

PROSE = 0.2  # of its words are function words, at the least; about 0.45 of most
SHORT = 400  # words
OTHER_LANGUAGES = {  # the commonest words of some, where the document's language was not looked at
    "cs": "se na je že to jsem ale do",
    "da": "og at det er en til på som ikke med for",
    "de": "der die und das ist nicht ein eine zu den mit von",
    "es": "el la de que los en un una por con no",
    "fi": "ja on ei se että oli hän mutta kun niin myös ovat",
    "fr": "le la les de et des est que une pas pour dans",
    "hu": "az és hogy nem egy is ez meg csak volt van",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam pada adalah",
    "it": "il di che la non un per una sono con del",
    "nl": "de het een en van ik is dat niet te op met",
    "pl": "się nie na do to że jest jak po",
    "pt": "de que do da em um para não uma",
    "ro": "și de la în nu să un este pe cu care",
    "sv": "och att det är en som på av för inte med den",
    "tr": "bir ve bu için da de çok ama ne gibi daha ile",
    "vi": "là và của không có một cho được trong này với người",
}
FUNCTION_WORDS = frozenset(ENGLISH)
WORDS_OF_OTHERS = [frozenset(words.split()) for words in OTHER_LANGUAGES.values()]
LINES = ("line_punct_thr", "short_line_thr", "new_line_ratio")
SAY_NOTHING = {  # of a kind: these rules
    "set in lines": (*LINES, "char_duplicates_ratio", "min_num_sentences", "min_doc_words", "min_stop_words"),
    "short, in whole sentences": (
        *(*LINES, "min_doc_words", "min_num_sentences", "min_stop_words", "max_non_alpha_words_ratio"),
        *("top_n_grams", "dup_n_grams"),
    ),
    "not in English": ("min_stop_words", "max_avg_word_length"),
    "without spaces": ("min_avg_word_length", "min_num_sentences"),  # C4 counts words a line between spaces
    "prose": ("filter_curly_bracket",),
    "prose in which a line comes again": ("char_duplicates_ratio",),
}
OF_LANGUAGE = ("not in English", "without spaces")


def excuse(check: Check, text: Text, language: str, every: bool = True) -> str:
    """The kind of a text of which a rule that fails says nothing; empty if there is none. Unless `every` kind is to be
    allowed for, languages are."""
    name = check.name.partition(" ")[0]
    if every and name == "max_non_alpha_words_ratio" and _with_letters(text) >= check.limit:
        return "of words with letters, marks aside"
    if name in ("top_n_grams", "dup_n_grams") and is_without_spaces(text) and not _repeats_itself(check, text):
        return "without spaces"
    known = {
        "set in lines": is_set_in_lines,
        "short, in whole sentences": lambda text: is_whole(text, language),
        "not in English": lambda text: is_in_other_language(text, language),
        "without spaces": is_without_spaces,
        "prose": is_prose,
        "prose in which a line comes again": lambda text: check.value <= 0.1 and is_prose(text),
    }
    kinds = [kind for kind, rules in SAY_NOTHING.items() if name in rules and (every or kind in OF_LANGUAGE)]
    return next((kind for kind in kinds if known[kind](text)), "")


def _with_letters(text: Text) -> float:
    return text.with_letters / max(text.proper_words, 1)


def _repeats_itself(check: Check, text: Text) -> bool:
    """By the rule for n words, where each character was taken for a word and a word has two."""
    name, n = check.name.split()
    if name == "top_n_grams":
        characters = repetition.top(text.words, 2 * int(n))[0] / 2  # it counts as many spaces
    else:
        characters = repetition.repeated(text.words, 2 * int(n))
    return characters > check.limit * len(text.text)


def suffix_of(source: str) -> str:
    """Of the file that a text is from, without those of compression."""
    name = source.lower().removesuffix(".gz").removesuffix(".zst")
    return PurePath(name).suffix


def is_code(source: str) -> bool:
    return suffix_of(source) in CODE_AND_MARKUP


def is_page(source: str) -> bool:
    return suffix_of(source) in PAGES


def function_words(text: Text) -> float:
    """The share of English words that only join others: about 0.45 of prose."""
    words = [word.lower() for word in text.words if word.isalpha()]
    return sum(word in FUNCTION_WORDS for word in words) / max(len(words), 1)


def is_prose(text: Text) -> bool:
    return function_words(text) >= 1.5 * PROSE


def is_set_in_lines(text: Text) -> bool:
    """Verse, a play or a dialogue: its lines are of the author's making, and not paragraphs."""
    lines = [line for line in text.text.split("\n") if line.strip()]
    if len(lines) < 4 or function_words(text) < PROSE:
        return False
    labels = Counter(label[1] for line in lines if (label := LABEL.match(line)))
    spoken = sum(count for count in labels.values() if count > 1)
    if spoken >= 0.1 * len(lines) and spoken >= 4:
        return True
    starts = sum(_first_letter(line).isupper() for line in lines)
    runs_on = sum(line.rstrip()[-1] in ",;:-—" for line in lines)
    short = sum(len(line.strip()) <= 70 for line in lines)
    return starts >= 0.7 * len(lines) and runs_on >= 0.15 * len(lines) and short >= 0.9 * len(lines)


def _first_letter(line: str) -> str:
    return next((sign for sign in line if sign.isalnum()), "")


def is_whole(text: Text, language: str) -> bool:
    """A short text in whole sentences: a problem, an answer, a message, a recipe with its list of things.

    What it says twice is no repetition yet; what it says three times and more may be 15% of it.
    """
    if not 5 <= text.proper_words <= SHORT:
        return False
    if function_words(text) < 0.75 * PROSE and not is_in_other_language(text, language):
        return False
    starts = [start[1] for start in SENTENCE_START.finditer(text.text)]
    ends = len(SENTENCE_END.findall(text.text))
    grams = Counter(zip(*(text.words[start:] for start in range(5)), strict=False))
    return (
        ends > 0
        and text.proper_words <= LONG_SENTENCE * ends
        and sum(not start.islower() for start in starts) >= 0.5 * len(starts)  # "P.E. class" looks like one
        and sum(max(count - 2, 0) for count in grams.values()) <= 0.15 * len(text.words)
    )


def is_in_other_language(text: Text, language: str) -> bool:
    """By the document's language, where it was looked at; else by its script, or by its commonest words."""
    if language:
        return language != "en"
    letters = [sign for sign in text.text[:2000] if sign.isalpha()]
    if 2 * sum(sign < "\u0250" for sign in letters) < len(letters):
        return True
    words = set(map(str.lower, text.words))
    return function_words(text) < PROSE and any(len(words & common) >= 4 for common in WORDS_OF_OTHERS)


def is_without_spaces(text: Text) -> bool:
    """In a script that has none between words."""
    return 2 * sum(bool(SPACELESS.match(word)) for word in text.words) > text.proper_words
