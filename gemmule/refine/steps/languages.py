"""The language of each document, by the bytes that are usual in it, and those in other languages dropped.

py3langid: langid.py (Lui and Baldwin 2012), multinomial naive Bayes over byte sequences, for 140 languages. Its
probabilities are softened by the square root of the bytes, so that they hold for short text as for long.

- A document that is too short to tell, or less certain than the threshold, is of no language, and kept.
- Of a long one five stretches are looked at, from its beginning to its end; the language with the most probability over
  their letters is its own. A title or a quotation in another language doesn't change it.
- Languages that ISO 639-3 counts as one (a macrolanguage) are alike here: Bosnian, Croatian and Serbian, in either
  script, can't be told apart in a short text. Their probabilities are added, and `keep` with one of them keeps all.
- Source code, by the name of its file, is of no language, and kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule.base.errors import RequestError
from gemmule.refine.formats.plain_text import is_code
from gemmule.refine.sources import Document
from gemmule.refine.steps.extras import check_installed
from gemmule.refine.steps.step import DocumentStep, Figure, Verdict

if TYPE_CHECKING:
    from gemmule.refine.corpus import Corpus

# py3langid's labels: ISO 639-1 codes, and ISO 639-3 where there is none.
LABELS = (  # noqa: SIM905
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy"
    " ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb"
    " lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si"
    " sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu"
).split()
NO_LANGUAGE = "zxx"
AS_WRITTEN = {  # in ISO 639-1, those that have a code there for them or for what they are a kind of
    "ary": "ar", "arz": "ar", "fuv": "ff", "gug": "gn", "hbo": "he", "kik": "ki", "sdh": "ku", "uzs": "uz",
    "wuu": "zh", "yue": "zh",
}  # fmt: skip
MACROLANGUAGES = {"bs": "sr", "hr": "sr", "sh": "sr", "nb": "no", "nn": "no", "ms": "id"}
KNOWN = sorted({AS_WRITTEN.get(label, label) for label in LABELS} | MACROLANGUAGES.keys())

SHORT, TOO_SHORT = 40, 20  # bytes of letters, in UTF-8: a short one has to be certain
CERTAIN = 0.9
STRETCHES, LENGTH = 5, 150  # characters
LETTERS = re.compile(r"[^\W\d_]+")


def check_languages(codes: Iterable[str]) -> None:
    """Raises RequestError for one that can't be told. No model is loaded."""
    if unknown := [code for code in codes if code not in KNOWN]:
        raise RequestError(
            f"refine.languages: {', '.join(map(repr, unknown))}: no code of a language that can be told. Known are"
            f" ISO 639-1's codes, and ISO 639-3's where there is none: {' '.join(KNOWN)}"
        )


@dataclass(frozen=True)
class Told:
    """What can be said of a document's language."""

    language: str = ""  # the likeliest
    probability: float = 0.0
    not_told: str = ""  # why it is none


class Languages(DocumentStep):
    """Tells each document's language; drops those in other ones than `keep`, if that is given."""

    name: ClassVar[str] = "languages"

    def __init__(self, keep: Sequence[str] | None = None, threshold: float = 0.5) -> None:
        self._keep = None if keep is None else tuple(keep)
        self._families = None if keep is None else {_family(code) for code in keep}
        self._threshold = threshold

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        check_installed(self.name, "py3langid")
        _identifier()  # before processes are forked, which share it then

    def judge(self, document: Document) -> Verdict:
        told = tell(document, self._threshold)
        figures: dict[str, Figure] = {}
        if told.language:
            figures = {"language": told.language, "probability": round(told.probability, 3)}
        counts = {told.not_told or told.language: 1}
        if told.not_told:
            return Verdict(replace(document, language=""), figures=figures, counts=counts)
        if self._families is not None and _family(told.language) not in self._families:
            reason = f"{told.language} (probability {told.probability:.2f}), not {' or '.join(self._keep or ())}"
            return Verdict(None, reason, figures, counts)
        return Verdict(replace(document, language=told.language), figures=figures, counts=counts)


def tell(document: Document, threshold: float = 0.5) -> Told:
    """The main language of a document."""
    if is_code(document.source):
        return Told(not_told="source code")
    votes: Counter[str] = Counter()
    letters = looked_at = 0
    for stretch in _stretches(document.text):
        weight = len("".join(LETTERS.findall(stretch)).encode("utf-8", "surrogatepass"))
        looked_at += weight
        if weight < TOO_SHORT:
            continue
        best = _identifier().classify(stretch)  # (label, probability)
        if best[0] != NO_LANGUAGE:
            letters += weight
            for label, probability in [best] if best[1] > CERTAIN else _identifier().rank(stretch):
                votes[label] += weight * probability
    if looked_at < TOO_SHORT:
        return Told(not_told="too short to tell")
    if not letters:
        return Told(not_told="no language")
    families: Counter[str] = Counter()
    for label, share in votes.items():
        families[_family(label)] += share
    (family, share), *_ = families.most_common(1)
    language = max((label for label in votes if _family(label) == family), key=votes.__getitem__)
    told = Told(AS_WRITTEN.get(language, language), share / letters)
    if looked_at < SHORT and told.probability < max(threshold, CERTAIN):
        return replace(told, not_told="too short to tell")
    return told if told.probability >= threshold else replace(told, not_told="not certain")


def _stretches(text: str) -> list[str]:
    """All of a short text; of a longer one some, as far from each other as they can be."""
    if len(text) <= STRETCHES * LENGTH:
        return [text]
    last = len(text) - LENGTH
    starts = [last * number // (STRETCHES - 1) for number in range(STRETCHES)]
    return [text[start : start + LENGTH] for start in starts]


def _family(code: str) -> str:
    """The macrolanguage of a language, by the code of one in it; of others their own."""
    code = AS_WRITTEN.get(code, code)
    return MACROLANGUAGES.get(code, code)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.nb_ptc = identifier.nb_ptc.astype("float32")  # of float16 it takes half as long again
    return identifier
