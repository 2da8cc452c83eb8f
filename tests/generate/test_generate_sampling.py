"""Sampling: distributions by counting, what is never drawn, reproducibility, streaming."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

import gemmule
import gemmule.generate
from gemmule.errors import RequestError, WorkError
from gemmule.generate.sampling import choose, generate, generate_ids
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.tokenizer.load import Tokenizer

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
EOS = 1


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte: what a model draws at random is rarely a whole character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({word: number for number, word in enumerate(CONTROL + alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(CONTROL)
    return Tokenizer(inner)


def model(vocabulary_size=260, seed=0):
    config = Gemma2Config(
        vocabulary_size=vocabulary_size, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn_width=24, window=4
    )
    return Gemma2(config).initialise(seed).eval()


class Scripted(Gemma2):
    """A model whose next token is always the next of a script."""

    def __init__(self, script, vocabulary_size=260, also=()):
        super().__init__(model(vocabulary_size).config)
        self.script, self.also, self.drawn = script, also, 0

    def logits(self, hidden):
        logits = torch.full((self.config.vocabulary_size,), -20.0)
        logits[self.script[self.drawn]] = 10.0
        logits[list(self.also)] = 29.0
        self.drawn += 1
        return logits


LOGITS = torch.tensor([0.1, 2.0, -1.0, 1.5, 0.6, 1.0])


def frequencies(draws=4000, **settings):
    generator = torch.Generator().manual_seed(0)
    settings = {"temperature": 1.0, "top_k": None, "top_p": None} | settings
    counts = Counter(choose(LOGITS, generator=generator, **settings) for _ in range(draws))
    return [counts[number] / draws for number in range(len(LOGITS))]


def expected(kept, temperature=1.0):
    weights = [math.exp(LOGITS[number] / temperature) if number in kept else 0.0 for number in range(len(LOGITS))]
    return [weight / sum(weights) for weight in weights]


# Probabilities at temperature 1: .066 .441 .022 .267 .109 .162 / 1.067, the likeliest first: 1, 3, 5, 4, 0, 2.
@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, range(6)),
        ({"temperature": 0.5}, range(6)),
        ({"temperature": 3.0}, range(6)),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 100}, range(6)),
        ({"top_p": 0.5}, [1, 3]),  # .41 is not enough, .66 is
        ({"top_p": 0.4}, [1]),
        ({"top_p": 1e-9}, [1]),
        ({"top_p": 1.0}, range(6)),
        ({"top_k": 3, "top_p": 0.7}, [1, 3]),  # of the three .51 and .82
        ({"temperature": 3.0, "top_p": 0.5}, [1, 3, 5]),  # flatter: .26, .48, .67
    ],
)
def test_frequencies(settings, kept):
    drawn, wanted = frequencies(**settings), expected(kept, settings.get("temperature", 1.0))
    assert drawn == pytest.approx(wanted, abs=0.03)
    assert [share > 0 for share in drawn] == [share > 0 for share in wanted]


@pytest.mark.parametrize("temperature", [0, 1e-40, 1e-3])
def test_no_temperature_takes_the_likeliest(temperature):
    assert frequencies(temperature=temperature, draws=50)[1] == 1


def test_same_seed_same_text(tokenizer):
    texts = [generate(model(), tokenizer, "To be", seed=seed, max_new_tokens=30) for seed in (1, 1, 2)]
    torch.manual_seed(5)
    assert texts[0] == texts[1] == generate(model(), tokenizer, "To be", seed=1, max_new_tokens=30)
    assert texts[0] != texts[2]


def test_the_global_generator_is_left_alone(tokenizer):
    torch.manual_seed(1)
    value = torch.rand(1)
    torch.manual_seed(1)
    generate(model(), tokenizer, "To be", max_new_tokens=3)
    assert torch.equal(torch.rand(1), value)


def test_the_prompt_is_read_after_bos_and_not_given_back(tokenizer):
    prompt = torch.tensor([[2, *tokenizer.encode("To be")]])
    ids = list(generate_ids(model(), prompt, temperature=0, max_new_tokens=8, excluded=[0, 2, 3], stop=[EOS]))
    with torch.no_grad():
        logits = model()(prompt)[0, -1]
        logits[[0, 2, 3]] = -torch.inf
        assert ids[0] == int(logits.argmax())
    text = generate(model(), tokenizer, "To be", temperature=0, max_new_tokens=8)
    assert text == tokenizer.decode(ids).rstrip("\ufffd")
    assert text != generate(model(), tokenizer, "To bf", temperature=0, max_new_tokens=8)


def test_the_text_ends_with_the_document(tokenizer):
    script = [*tokenizer.encode("or not"), EOS, *tokenizer.encode("more")]
    assert generate(Scripted(script), tokenizer, "To be ", temperature=0) == "or not"
    assert generate(Scripted(script), tokenizer, "To be ", temperature=0, max_new_tokens=2) == "or"
    assert list(generate_ids(Scripted(script), torch.tensor([[2]]), temperature=0, max_new_tokens=8)) == script[:8]


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_what_no_text_has_is_never_drawn(tokenizer, temperature):
    """llama.cpp#8445: more rows than tokens. <pad>, <bos>, <unk> and the rows above are the likeliest by far."""
    script = [*tokenizer.encode("abc"), EOS]
    scripted = Scripted(script, vocabulary_size=268, also=[0, 2, 3, *range(260, 268)])
    assert generate(scripted, tokenizer, "", temperature=temperature) == "abc"


def test_fewer_rows_than_tokens(tokenizer):
    with pytest.raises(RequestError, match="knows 250 tokens and its tokenizer 260"):
        generate(model(250), tokenizer, "To be")


def test_pieces_are_whole_characters(tokenizer):
    text = "naïve 日本語 😀 👩‍👩‍👧 e\u0301!"
    script = [*tokenizer.encode(text), EOS]
    pieces = list(generate(Scripted(script), tokenizer, "", temperature=0, max_new_tokens=200, stream=True))
    assert "".join(pieces) == text
    assert len(pieces) == len(text)  # one token a byte: each character as soon as it is whole
    assert generate(Scripted(script), tokenizer, "", temperature=0, max_new_tokens=200) == text


def test_half_a_character_at_the_end_is_left_out(tokenizer):
    script = tokenizer.encode("ab😀")[:-1]
    assert generate(Scripted(script), tokenizer, "", temperature=0, max_new_tokens=5) == "ab"


def test_nonsense_bytes_stream_too(tokenizer):
    for seed in range(5):
        pieces = list(generate(model(), tokenizer, "", seed=seed, temperature=5.0, max_new_tokens=40, stream=True))
        assert "".join(pieces) == generate(model(), tokenizer, "", seed=seed, temperature=5.0, max_new_tokens=40)


def test_streaming_draws_as_it_goes(tokenizer):
    scripted = Scripted([*tokenizer.encode("abcdef"), EOS])
    pieces = generate(scripted, tokenizer, "", temperature=0, stream=True)
    assert next(pieces) == "a"
    assert scripted.drawn == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"temperature": math.inf}, "temperature = inf"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.1}, "top_p = 1.1"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_impossible_settings_are_refused_at_once(tokenizer, settings, message, stream):
    with pytest.raises(RequestError, match=message):
        generate(model(), tokenizer, "To be", stream=stream, **settings)


def test_weights_that_are_no_numbers(tokenizer):
    broken = model()
    with torch.no_grad():
        broken.model.norm.weight[0] = math.nan
    with pytest.raises(WorkError, match="not finite"):
        generate(broken, tokenizer, "To be")


def test_the_folder_is_the_function_too(tokenizer):
    text = gemmule.generate(model(), tokenizer, "To be", max_new_tokens=5)
    assert text == generate(model(), tokenizer, "To be", max_new_tokens=5)
