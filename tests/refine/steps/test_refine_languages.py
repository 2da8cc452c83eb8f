"""Languages: what is told of a text, and what is kept."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError
from gemmule.refine.sources import Document, read_documents, resolve
from gemmule.refine.steps.languages import KNOWN, LABELS, NO_LANGUAGE, Languages, check_languages, tell

# The Universal Declaration of Human Rights, article 1.
ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience"
    " and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt"
    " und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de"
    " conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y"
    " conciencia, deben comportarse fraternalmente los unos con los otros.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência,"
    " devem agir uns para com os outros em espírito de fraternidade.",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを"
    "授けられており、互いに同胞の精神をもって行動しなければならない。",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을"
    " 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и"
    " должны поступать в отношении друг друга в духе братства.",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل"
    " بعضهم بعضاً بروح الإخاء.",
    "no": "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter. De er utstyrt med fornuft og"
    " samvittighet og bør handle mot hverandre i brorskapets ånd.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được tạo hoá"
    " ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình anh em.",
}  # fmt: skip
SERBIAN = (
    "Сва људска бића рађају се слободна и једнака у достојанству и правима. Она су обдарена разумом и свешћу и треба"
    " једни према другима да поступају у духу братства.",
    "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Ona su obdarena razumom i svešću i treba"
    " jedni prema drugima da postupaju u duhu bratstva.",
)
CROATIAN = (
    "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Ona su obdarena razumom i sviješću i"
    " trebaju jedno prema drugome postupati u duhu bratstva."
)


def document(text: str, source: str = "a.txt") -> Document:
    return Document(text, source, 3)


@pytest.mark.parametrize("language", ARTICLE)
def test_tells_languages(language):
    verdict = Languages().judge(document(ARTICLE[language]))
    assert verdict.document is not None
    assert verdict.document.language == language
    assert verdict.counts == {language: 1}
    assert verdict.figures["language"] == language
    assert 0.9 < verdict.figures["probability"] <= 1


def test_drops_what_is_surely_of_another_language():
    step = Languages(["de", "ja"])
    kept = {language for language, text in ARTICLE.items() if step.judge(document(text)).document is not None}
    assert kept == {"de", "ja"}
    verdict = step.judge(document(ARTICLE["fr"]))
    assert verdict.reason == "fr (probability 1.00), not de or ja"
    assert verdict.counts == {"fr": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("OK.", "too short to tell"),
        ("12:30, 4.5 and 6", "too short to tell"),
        ("for (i = 0; i < n; i++) { x += i; }", "too short to tell"),
        ("東京へ", "too short to tell"),
        ("ok ok ok ok ok ok ok ok ok", "too short to tell"),
    ],
)
def test_too_short_to_tell_is_kept_and_said(text, reason):
    verdict = Languages(["fi"]).judge(document(text))
    assert verdict.document == document(text)
    assert verdict.counts == {reason: 1}


def test_what_is_not_certain_is_kept_and_said():
    """As much German as English: neither is likelier than the threshold."""
    text = (ARTICLE["en"] + "\n") * 10 + (ARTICLE["de"] + "\n") * 10
    verdict = Languages(["fi"], threshold=0.8).judge(document(text))
    assert verdict.document == document(text)
    assert verdict.counts == {"not certain": 1}
    assert verdict.figures["probability"] < 0.8


def test_the_main_language_decides():
    title = "The Universal Declaration of Human Rights, in Japanese: Article One\n\n"
    assert Languages(["ja"]).judge(document(title + ARTICLE["ja"] * 2)).document is not None
    assert Languages(["en"]).judge(document(title + ARTICLE["ja"] * 2)).document is None
    quoting = (ARTICLE["en"] + "\n") * 20 + (ARTICLE["fr"] + "\n") * 8 + (ARTICLE["en"] + "\n") * 20
    assert Languages(["en"]).judge(document(quoting)).document is not None


def test_serbian_in_both_scripts():
    step = Languages(["sr"])
    for text in SERBIAN:
        verdict = step.judge(document(text))
        assert verdict.document is not None
        assert Languages(["ru", "mk", "sl"]).judge(document(text)).document is None
    assert step.judge(document(SERBIAN[0])).document.language == "sr"


def test_a_macrolanguage_is_kept_as_one():
    assert Languages(["hr"]).judge(document(SERBIAN[1])).document is not None
    assert Languages(["sr"]).judge(document(CROATIAN)).document is not None
    for code in ("no", "nb", "nn"):
        assert Languages([code]).judge(document(ARTICLE["no"])).document is not None
    assert Languages(["da"]).judge(document(ARTICLE["no"])).document is None


def test_source_code_has_no_language_and_stays():
    for source in ("a.py", "b/C.PY.gz", "c.rs"):
        verdict = Languages(["fi"]).judge(document(f'"""{ARTICLE["fr"]}"""', source))
        assert verdict.document == document(f'"""{ARTICLE["fr"]}"""', source)
        assert verdict.counts == {"source code": 1}
    assert Languages(["fi"]).judge(document(ARTICLE["fr"], "a.rst")).document is None


def test_no_play_of_shakespeare_is_lost():
    step = Languages(["en"])
    for file in resolve(["gemmule:shakespeare"], Path()):
        for each in read_documents(file):
            verdict = step.judge(each)
            assert verdict.document is not None, each.place
            assert verdict.counts == {"en": 1}, each.place


def test_how_much_is_read_does_not_grow_with_the_text():
    beginning = ARTICLE["de"] + "\n"
    assert tell(document(beginning * 5_000)) == tell(document(beginning * 10_000))


def test_goes_to_other_processes():
    step = pickle.loads(pickle.dumps(Languages(["de"], 0.7)))
    assert step.judge(document(ARTICLE["fr"])).document is None
    assert step.judge(document(ARTICLE["de"])).document.language == "de"


def test_known_codes():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert sorted([*LABELS, NO_LANGUAGE]) == sorted(LanguageIdentifier.from_model_file(MODEL_FILE).labels)
    check_languages(KNOWN)
    check_languages(["en", "nb", "zh", "sr"])
    with pytest.raises(RequestError, match=r"'EN', 'xx'.* af am an ar "):
        check_languages(["de", "EN", "xx"])


def test_a_missing_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"needs py3langid: pip install 'gemmule\[refine\]'"):
        Languages().prepare(tmp_path, None)
