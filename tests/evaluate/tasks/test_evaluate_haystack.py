"""Numbers hidden in text, asked of a model that finds what stood before anywhere, and of one that sees a little."""

from __future__ import annotations

import random
import statistics

import pytest
from copying import Copying

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked, haystack, needle, passkey, task
from gemmule.tokenize.training import train

CONTEXT, SEES = 512, 64
TEXT = " ".join([*passkey.FILLER, passkey.NEEDLE.sentence, passkey.NEEDLE.question, needle.NEEDLE.question])


@pytest.fixture(scope="module")
def tokenizer():
    return train([TEXT] * 3, 320)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(haystack, "COUNT", 2)


def texts(seed: int = 0) -> list[str]:
    """Four documents of sentences of made-up words."""
    generator = random.Random(seed)
    words = ["".join(generator.choices("abdeiklmnorstu", k=generator.randint(2, 6))) for _ in range(60)]
    return [
        " ".join(" ".join(generator.choices(words, k=generator.randint(4, 9))).capitalize() + "." for _ in range(40))
        for _ in range(4)
    ]


@pytest.mark.parametrize("name", ["passkey", "needle"])
def test_who_looks_back_far_enough_finds_it_and_who_does_not_guesses(tokenizer, name):
    far = task(name)(Asked(Copying(tokenizer.vocabulary_size), tokenizer, CONTEXT, texts()))
    assert far["chance"] == 0.1
    assert far["accuracy"] == far["exact"] == 1
    assert {cell["length"] for cell in far["by_length_and_depth"]} >= {512, 256, 128}
    assert {cell["depth"] for cell in far["by_length_and_depth"]} == set(haystack.DEPTHS)
    assert far["count"] == sum(cell["count"] for cell in far["by_length_and_depth"])

    near = task(name)(Asked(Copying(tokenizer.vocabulary_size, SEES), tokenizer, CONTEXT, texts()))
    cells = [cell for cell in near["by_length_and_depth"] if cell["length"] >= 256]
    assert all(cell["accuracy"] == cell["exact"] == 1 for cell in cells if cell["depth"] == 1)  # right in front of it
    hidden = [cell for cell in cells if cell["depth"] < 0.75]  # 64 tokens back and more
    assert all(cell["exact"] == 0 for cell in hidden)
    assert statistics.mean(cell["accuracy"] for cell in hidden) <= 0.4  # 0.1 is expected of 12 guesses


def test_a_prompt_is_as_long_as_it_says_and_hides_the_number_where_it_says(tokenizer):
    filler = [tokenizer.encode(f" {sentence}") for sentence in passkey.FILLER] * 20
    sentence, question = passkey.NEEDLE.sentence, passkey.NEEDLE.question
    for depth in haystack.DEPTHS:
        prompt = haystack._prompt(tokenizer, filler, passkey.NEEDLE, 300, depth, random.Random(1))
        assert prompt.ids[0] == tokenizer.bos_id
        assert tokenizer.bos_id not in prompt.ids[1:]
        assert len(prompt.ids) + len(prompt.choices[0]) == 300
        text = tokenizer.decode(prompt.ids[1:])
        before, after = text.split(sentence.format(prompt.number))
        assert text.endswith(f" {question}")
        rest = after.removesuffix(question)
        assert len(before) / (len(before) + len(rest)) == pytest.approx(depth, abs=0.06)
        assert not before.strip() or before.strip().endswith(".")
        assert len({tuple(choice) for choice in prompt.choices}) == 10
        assert {len(choice) for choice in prompt.choices} == {len(prompt.choices[0])}
        assert tokenizer.decode(prompt.choices[0]).strip() == prompt.number


def test_the_seed_alone_decides_what_is_asked(tokenizer):
    def prompts(seed):
        found = []

        class Listening(Copying):
            def expect(self, ids, documents=None):
                found.append(ids.tolist())
                return super().expect(ids)

        needle.run(Asked(Listening(tokenizer.vocabulary_size), tokenizer, 128, texts(), seed))
        assert all(len(row) <= 128 for ids in found for row in ids)
        return found

    assert prompts(3) == prompts(3)
    assert prompts(3) != prompts(4)


def test_lengths_without_room_are_named_and_a_context_without_room_refused(tokenizer):
    model = Copying(tokenizer.vocabulary_size)
    found = passkey.run(Asked(model, tokenizer, 128))
    assert found["too_short"] == [16, 32]
    assert {cell["length"] for cell in found["by_length_and_depth"]} == {64, 128}
    with pytest.raises(RequestError, match=r"passkey: a context of 32 tokens is too short"):
        passkey.run(Asked(model, tokenizer, 32))


def test_needle_wants_text_and_enough_of_it(tokenizer):
    model = Copying(tokenizer.vocabulary_size)
    with pytest.raises(RequestError, match=r"needle .* give TEXT"):
        needle.run(Asked(model, tokenizer, CONTEXT))
    with pytest.raises(RequestError, match=r"needle: the text has \d+ tokens, and the model reads 512: give more text"):
        needle.run(Asked(model, tokenizer, CONTEXT, ["A short text."]))
