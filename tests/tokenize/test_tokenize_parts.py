"""Long texts in parts: the same ids as in one, for every kind of tokenizer; bounded where there is no good place."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from large_tokenizers import like_gemma, like_gpt2, like_llama3, read_work

from gemmule.tokenize import Tokenizer, train
from gemmule.tokenize import parts as module
from gemmule.tokenize.parts import groups, parts

training = sys.modules["gemmule.tokenize.training"]
ODD = [
    "\n", "\n\n", "\r\n", " ", "  ", "\t", "word", "don't", "'s", "I'LL", "12", "3.14", "—", "…", "!!!\n", "?\n\n", "(",
    " (", "\n (", "\n/", "日本語", "naïve", "\u00a0", "\u2028", "a" * 70, "é", "e\u0301", "<bos>", "\U0001f469\u200d",
]  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    return read_work("hamlet")[0][:60_000]


@pytest.fixture(scope="module", params=["own", "gemma", "llama2", "gpt2", "llama3"])
def tokenizer(request: pytest.FixtureRequest, text: str) -> Tokenizer:
    make: dict[str, Callable[[], Tokenizer]] = {
        "own": lambda: train([text], 1000),
        "gemma": lambda: like_gemma([text], 1500),
        "llama2": lambda: like_gemma([text], 1500, prefix=True),
        "gpt2": lambda: like_gpt2([text], 1500),
        "llama3": lambda: like_llama3([text], 1500),
    }
    return make[request.param]()


def ids(tokenizer: Tokenizer, text: str, longest: int) -> list[int]:
    found = list(parts(text, tokenizer.encode, longest))
    assert max(map(len, found)) <= longest
    return [number for part in found for number in tokenizer.encode(part)]


def test_the_ids_are_those_of_the_whole(tokenizer: Tokenizer, text: str) -> None:
    draw = random.Random(0)
    for some in (text, " ".join(text.split()), *("".join(draw.choices(ODD, k=1500)) for _ in range(10))):
        assert ids(tokenizer, some, 1500) == tokenizer.encode(some)
    assert list(parts("short", tokenizer.encode)) == ["short"]


@pytest.mark.parametrize("stretch", ["ACGT", " ", "\n", "é", "=-", "0123456789", " \t\n"])
def test_a_stretch_without_a_good_place_is_cut_all_the_same(tokenizer: Tokenizer, stretch: str) -> None:
    some = "before it\n" + stretch * (6000 // len(stretch)) + "\nafter it"
    found = list(parts(some, tokenizer.encode, 1000))
    assert max(map(len, found)) <= 1000
    assert "".join(found).replace(" ", "") == some.replace(" ", "")
    assert len(found) <= 13


def test_encode_cuts_what_is_long(tokenizer: Tokenizer, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [tokenizer.encode(text), tokenizer.encode("short"), tokenizer.encode(text[:5000]), []]
    handed: list[int] = []
    real = Tokenizer._encoded
    monkeypatch.setattr(
        Tokenizer,
        "_encoded",
        lambda self, encode, texts: handed.append(sum(map(len, texts))) or real(self, encode, texts),
    )
    monkeypatch.setattr(module, "AT_ONCE", 6000)
    monkeypatch.setattr(module.parts, "__defaults__", (5000,))
    monkeypatch.setattr(module, "LONGEST", 5000)
    assert tokenizer.encode_batch([text, "short", text[:5000], ""]) == expected
    assert tokenizer.encode(text) == expected[0]
    assert max(handed) <= 6000


def test_batches() -> None:
    texts = ["a" * 1000] * 1200 + ["b" * 200_000, "c"]
    found = list(groups(texts))
    assert [text for some in found for text in some] == texts
    assert max(sum(map(len, some)) for some in found[:-2]) <= 2**19
    assert found[-2:] == [["b" * 200_000], ["c"]]


# --- training


def test_long_stretches_are_learned_from_in_short_pieces() -> None:
    """The library's pattern gives up on 20 million spaces, and its time goes by the square of a word's length."""
    words = "".join(random.Random(0).choices("ACGT", k=200_000))
    for stretch in (" " * 500_000, words, "=-" * 100_000, " \t\n" * 50_000, "z" * 200_000 + "1"):
        assert max(map(len, training._bounded(["some words\n", stretch]))) <= 256
    for part in training._bounded(["x y1" * 50_000]):
        assert part.endswith("x") or len(part) < 2**13  # ends before a space
    tokenizer = train(["some words, too\n" * 50, " " * 500_000, words], 300)
    assert tokenizer.decode(tokenizer.encode(words)) == words


def test_long_stretches_count_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RUNS_LEARNED", 512)
    learned = training._bounded(["xy" * 256, "kl" * 128, "zq" * 5000, "xy" * 128])
    assert [piece for piece in learned if piece] == ["xy" * 128, "xy" * 128, "kl" * 128, "xy" * 128]


def test_parts_change_nothing_that_is_learned(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train([text], 800).inner.to_str()
    monkeypatch.setattr(training, "PART", 1000)
    assert train([text], 800).inner.to_str() == whole


def test_a_signal_is_heard_while_a_tokenizer_learns() -> None:
    """Without the thread, it is heard when all is over."""
    reading = threading.Event()

    def texts() -> Iterator[str]:
        for read in itertools.count():  # without an end
            if read >= 1000:
                reading.set()
                time.sleep(0.001)
            yield "so it goes on "

    def interrupt() -> None:
        reading.wait(60)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(texts(), 262)
    for thread in threading.enumerate():
        if thread.name == "tokenizer":
            thread.join(60)
            assert not thread.is_alive()  # nobody reads on
