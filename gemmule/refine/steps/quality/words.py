"""Words and sentences, as datatrove counts them: by the rules of spaCy's blank English tokenizer, without spaCy.

spaCy (`spacy/tokenizer.pyx`, `spacy/lang/punctuation.py`) splits at white space, then takes marks off both ends of each
chunk, one piece after the other, then splits at hyphens and slashes inside it; contractions, abbreviations and faces
are listed. What a chunk splits into is remembered, so that a text costs one look-up for each of its chunks.

In scripts that are written without spaces (Chinese, Japanese, Thai, ...) each character is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

SENTENCE_ENDS = (  # of all scripts: what Unicode calls Sentence_Terminal
    "!.?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b"
    "\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u17d6\u17d9\u17da\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa"
    "\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2048\u2049\u2e2e\u2e3c"
    "\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f"
    "\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55\U00010f56"
    "\U00010f57\U00010f58\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89\U00011047\U00011048\U000110be"
    "\U000110bf\U000110c0\U000110c1\U00011141\U00011142\U00011143\U000111c5\U000111c6\U000111cd\U000111de"
    "\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3"
    "\U000115c9\U000115ca\U000115cb\U000115cc\U000115cd\U000115ce\U000115cf\U000115d0\U000115d1\U000115d2"
    "\U000115d3\U000115d4\U000115d5\U000115d6\U000115d7\U00011641\U00011642\U0001173c\U0001173d\U0001173e"
    "\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8"
    "\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U00016e98\U0001bc9f"
    "\U0001da88"
)
SIGNS = (
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(chr(code) for low, high in ((0, 9), (11, 13), (13, 32), (127, 160)) for code in range(low, high))
    + SENTENCE_ENDS
)
NO_SIGN = re.compile(f"[^{re.escape(SIGNS)}]")
LOWER = "".join(filter(str.islower, map(chr, range(0x590))))
UPPER = "".join(filter(str.isupper, map(chr, range(0x590))))
UNCASED = r"\u0590-\u137F\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF"
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
PUNCTUATION = re.escape("…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪")
ICONS = r"¦©®°\u2100-\u2139\u2190-\u2BFF\uFFFC\uFFFD\U0001F000-\U0001FAFF"  # about what Unicode calls other symbols
CURRENCY = r"$£€¥฿﷼\u20A0-\u20BF"
UNITS = (
    "[kdcmnµ]?m[²³]?|ha|yd|in|ft|[kmµ]?g|t|lb|oz|m/s|km/h|kmh|mph|hPa|Pa|[mMkKgGtT][bB]|mbar|[TGMK%]"  # of length, ...
)
PREFIX = re.compile(rf"\.\.+|[§%=—–{QUOTES}{PUNCTUATION}{ICONS}{CURRENCY}]|\+(?![0-9])|(?:US|[CA])\$")
SUFFIX = re.compile(
    rf"(?:\.\.+|['’][sS]|[—–{QUOTES}{PUNCTUATION}{ICONS}]|(?<=[0-9])(?:\+|(?:US|[CA])?[{CURRENCY}]|{UNITS})"
    rf"|(?<=[0-9{LOWER}{UNCASED}%²+|{QUOTES}{PUNCTUATION}-])\.|(?<=[{UPPER}{UNCASED}][{UPPER}{UNCASED}])\.)$"
)
INFIX = re.compile(
    rf"\.\.+|[…{ICONS}]|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[{LOWER}{UNCASED}{QUOTES}])\.(?=[{UPPER}{UNCASED}{QUOTES}])"
    r"|(?<=[^\W\d_]),(?=[^\W\d_])|(?<=[^\W_])(?:-{1,3}|–|——?|~|[:<>=/])(?=[^\W\d_])"
)
ADDRESS = re.compile(  # of the web, or of mail
    r"(?:[\w+.-]{2,}://)?(?:\S+@)?(?:\d{1,3}(?:\.\d{1,3}){3}|(?:(?:[a-zA-Z0-9\u00A1-\uFFFF][\w\u00A1-\uFFFF-]{0,62})?"
    rf"[a-zA-Z0-9\u00A1-\uFFFF]\.)+[{LOWER}{UNCASED}]{{2,63}})(?::\d{{2,5}})?(?:[/?#]\S*)?$"
)
ABBREVIATIONS = (  # noqa: SIM905
    "Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. "
    "Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. "
    "Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. Adm. Bros. Co. Corp. D.C. Dr. E.G. E.g. "
    "Gen. Gov. I.E. I.e. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Ph.D. Prof. Rep. Rev. Sen. St. a.m. "
    "co. e.g. i.e. p.m. v.s. vs. C++ and/or w/o 'S 's ‘S ‘s ’S ’s 're 'Cause 'cause 'Cos 'cos 'Coz 'coz 'Cuz "
    "'cuz 'bout 'em 'll 'nuff 'd Ma'am ma'am O'clock o'clock Lovin' lovin' Havin' havin' Doin' doin' Goin' "
    "goin' Nothin' nothin' Nuthin' nuthin' Ol' ol' Somethin' somethin' —"
).split()
FACES = (  # noqa: SIM905
    "'' :) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; "
    ":( :-( :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O "
    ":-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD 8D 8-D ^_^ ^__^ "
    ">.< -_- v_v o_o O_O o.O O.o O.O o.o @_@ <3 <33 </3 (^_^) (-_-) (._.) (>_<) (*_*)"
).split()
VERBS = (  # noqa: SIM905
    "ca could do does did had may might must need ought sha should wo would ai are is was were have has dare"
).split()
PERSONS = "i you he she it we they who what when where why how there that this these those".split()  # noqa: SIM905
RUN_TOGETHER = (("can", "not"), ("gon", "na"), ("got", "ta"))
WORDS_OF_THEIR_OWN = frozenset({"ill", "its", "hell", "shell", "shed", "were", "well", "whore"})


def _listed() -> dict[str, tuple[str, ...]]:
    """What is not split by the rules, with what it splits into: contractions, with and without their apostrophe."""
    parts: list[tuple[str, ...]] = [(first, "n't", *more) for first in VERBS for more in ((), ("'ve",))]
    parts += [(verb, "'ve") for verb in ("could", "might", "must", "should", "would")]
    parts += [(person, *end) for person in PERSONS for end in (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve"))]
    parts += [(person, "'ve") for person in PERSONS if person not in ("he", "she", "it", "that", "this")]
    parts += [(person, "'re") for person in PERSONS if person not in ("i", "he", "she", "it", "that", "this")]
    parts += [(person, "'s") for person in PERSONS if person not in ("i", "you", "we", "they", "these", "those")]
    parts += [("i", "'m"), ("i", "'m", "a"), ("let", "'s"), ("y'", "all"), ("c'm", "on"), ("not", "'ve")]
    with_apostrophe = {"".join(each): each for each in parts}
    without = {
        "".join(plain): plain
        for each in parts
        if each[0] != "let"
        and "".join(plain := tuple(part.replace("'", "") for part in each)) not in WORDS_OF_THEIR_OWN
    }
    split = with_apostrophe | without | {"".join(each): each for each in RUN_TOGETHER}
    split |= {key[0].upper() + key[1:]: (each[0][0].upper() + each[0][1:], *each[1:]) for key, each in split.items()}
    split |= {f"{hour}{half}": (str(hour), half) for hour in range(1, 13) for half in ("am", "pm", "a.m.", "p.m.")}
    whole = [*ABBREVIATIONS, *FACES, *(f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü")]
    split |= {each: (each,) for each in whole}
    return split | {
        key.replace("'", "’"): tuple(part.replace("'", "’") for part in each) for key, each in split.items()
    }


LISTED = _listed()
LONGEST_LISTED = max(map(len, LISTED))
FACE = re.compile("|".join(map(re.escape, FACES)))
LONGEST_SUFFIX = 16
MOST_REMEMBERED = 2**17  # chunks, about 20 MB
SPACELESS_SCRIPTS = r"\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u9FFF\uF900-\uFAFF"
SPACELESS = re.compile(f"[{SPACELESS_SCRIPTS}]")
BY_CHARACTER = re.compile(f"[{SPACELESS_SCRIPTS}]|[^{SPACELESS_SCRIPTS}]+")


def pieces(chunk: str) -> tuple[str, ...]:
    """The words in a chunk without white space."""
    if chunk.isascii() and chunk.isalpha() and chunk not in LISTED:
        return (chunk,)
    left: list[str] = []
    right: list[str] = []
    start, end = 0, len(chunk)
    while start < end and not _is_listed(chunk, start, end):
        prefix = PREFIX.match(chunk, start, end)
        after = prefix.end() if prefix else start
        suffix = SUFFIX.search(chunk, max(after, end - LONGEST_SUFFIX), end)
        before = suffix.start() if suffix else end
        if prefix and _is_listed(chunk, after, end):
            before = end
        elif suffix and _is_listed(chunk, start, before):
            after = start
        if after == start and before == end:
            break
        if after > start:
            left.append(chunk[start:after])
        if before < end:
            right.append(chunk[before:end])
        start, end = after, before
    middle = _inside(chunk[start:end]) if start < end else ()
    parts = (*left, *middle, *reversed(right))
    return tuple(_with_faces(parts)) if len(parts) > 1 and FACE.search(chunk) else parts


def _is_listed(chunk: str, start: int, end: int) -> bool:
    return end - start <= LONGEST_LISTED and chunk[start:end] in LISTED


def _with_faces(parts: Sequence[str]) -> Iterator[str]:
    """What the rules took apart, put together again."""
    start = 0
    while start < len(parts):
        ends = range(min(start + 5, len(parts)), start + 1, -1)
        end = next((end for end in ends if "".join(parts[start:end]) in FACES), start + 1)
        yield "".join(parts[start:end])
        start = end


def _inside(middle: str) -> tuple[str, ...]:
    """Split at what joins words; no further at the ends."""
    if middle in LISTED:
        return LISTED[middle]
    cuts = [place for joint in INFIX.finditer(middle) if joint.start() for place in joint.span()]
    if cuts and not ADDRESS.match(middle):
        edges = [0, *cuts, len(middle)]
        parts = [middle[start:end] for start, end in pairwise(edges) if start < end]
    else:
        parts = [middle]
    if SPACELESS.search(middle):
        parts = [word for part in parts for word in BY_CHARACTER.findall(part)]
    return tuple(parts)


class _Remembered(dict[str, tuple[str, ...]]):
    def __missing__(self, chunk: str) -> tuple[str, ...]:
        found = pieces(chunk)
        if len(chunk) <= 40:
            self[chunk] = found
        return found


_remembered = _Remembered()


def words_of(text: str) -> list[str]:
    """The words and signs of a text, in order."""
    if len(_remembered) > MOST_REMEMBERED:
        _remembered.clear()
    return list(chain.from_iterable(map(_remembered.__getitem__, text.split())))
