"""Generation: batches, what is never drawn, reproducibility, where a text ends, streaming."""

from __future__ import annotations

import math

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

import gemmule
import gemmule.generate
from gemmule.base.errors import RequestError, WorkError
from gemmule.generate.reading import CHUNK
from gemmule.generate.sampling import generate, generate_batch, generate_ids
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.tokenize.tokenizer import Tokenizer

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
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


def model(vocabulary_size=262, seed=0):
    config = Gemma2Config(
        vocabulary_size=vocabulary_size, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn_width=24, window=4
    )
    return Gemma2(config).initialise(seed).eval()


class Scripted(Gemma2):
    """A model whose next token is always the next of a script; of the script of its row, if there are several."""

    def __init__(self, *scripts, vocabulary_size=262, also=()):
        super().__init__(model(vocabulary_size).config)
        self.scripts, self.also, self.drawn = scripts, also, 0

    def logits(self, hidden):
        logits = torch.full((len(self.scripts), self.config.vocabulary_size), -20.0)
        for row, script in zip(logits, self.scripts, strict=True):
            row[script[self.drawn] if self.drawn < len(script) else EOS] = 10.0
        logits[:, list(self.also)] = 29.0
        self.drawn += 1
        return logits


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
    ids = list(generate_ids(model(), prompt, temperature=0, max_new_tokens=8, excluded=[0, 2, 3, 4, 5], stop=[EOS]))
    with torch.no_grad():
        logits = model()(prompt)[0, -1]
        logits[[0, 2, 3, 4, 5]] = -torch.inf
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
    """llama.cpp#8445: more rows than tokens. Control tokens and the rows above are the likeliest by far."""
    script = [*tokenizer.encode("abc"), EOS]
    scripted = Scripted(script, vocabulary_size=270, also=[0, 2, 3, 4, 5, *range(262, 270)])
    assert generate(scripted, tokenizer, "", temperature=temperature) == "abc"


def test_fewer_rows_than_tokens(tokenizer):
    with pytest.raises(RequestError, match="knows 250 tokens and its tokenizer 262"):
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
        ({"temperature": 1e-300}, "temperature = 1e-300: must be 0, or a number from 0.0001 to 10,000"),
        ({"temperature": "hot"}, "temperature = 'hot'"),
        ({"max_new_tokens": 2**20 + 1}, "max_new_tokens = 1048577: must be a whole number from 1 to 1,048,576"),
        ({"max_new_tokens": 2.0}, "max_new_tokens = 2.0"),
        ({"seed": 10**24}, "seed = 1000000000000000000000000: must be a whole number from 0 to 2\\^63 - 1"),
        ({"seed": -1}, "seed = -1"),
        ({"repetition_penalty": 1e-38}, "repetition_penalty = 1e-38: must be a number from 0.01 to 100"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_k": 10**30}, "top_k = 1000"),
        ({"top_k": True}, "top_k = True"),
        ({"top_p": math.nan}, "top_p = nan"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.1}, "top_p = 1.1"),
        ({"min_p": -0.1}, "min_p = -0.1"),
        ({"min_p": 1.1}, "min_p = 1.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0"),
        ({"repetition_penalty": math.inf}, "repetition_penalty = inf"),
        ({"stop": ["a", ""]}, "stop = ''"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_impossible_settings_are_refused_at_once(tokenizer, settings, message, stream):
    with pytest.raises(RequestError, match=message):
        generate(model(), tokenizer, "To be", stream=stream, **settings)


PROMPTS = ["To be", "", "or not to be, that is the question", "x"]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_row_of_a_batch_gets_the_text_that_it_gets_alone(tokenizer, temperature):
    """Window 4: prompts are shorter and longer than it."""
    settings = {"temperature": temperature, "max_new_tokens": 40, "seed": 3, "repetition_penalty": 1.3, "top_p": 0.9}
    together = generate(model(), tokenizer, PROMPTS, **settings)
    assert together == [generate(model(), tokenizer, prompt, **settings) for prompt in PROMPTS]
    assert len(set(together)) == 4
    assert generate(model(), tokenizer, [], **settings) == []


def test_a_prompt_longer_than_a_chunk(tokenizer):
    prompt = torch.randint(6, 262, (1, 2 * CHUNK + 7), generator=torch.Generator().manual_seed(0))
    ids = list(generate_ids(model(), prompt, temperature=0, max_new_tokens=4))
    with torch.no_grad():
        logits = model()(torch.cat((prompt, torch.tensor([ids])), 1))
    assert logits[0, -5:-1].argmax(-1).tolist() == ids


def test_rows_end_one_by_one(tokenizer):
    scripts = [[*tokenizer.encode("ab"), EOS], tokenizer.encode("cdef")]
    assert generate(Scripted(*scripts), tokenizer, ["1", "23"], temperature=0) == ["ab", "cdef"]
    steps = list(generate_batch(Scripted([7, EOS, 8], [7, 8, 9, EOS]), [[2], [2, 3]], stop=[EOS]))
    assert steps == [[7, 7], [None, 8], [None, 9]]


def test_repetition_is_penalised_in_prompt_and_text(tokenizer):
    """Of logits 10, 9 and 8; a penalty of 2 brings one below the others once it is seen."""
    favourites = tokenizer.encode("abc")

    class Fixed(Scripted):
        def logits(self, hidden):
            logits = torch.full((1, 262), -20.0)
            logits[0, favourites] = torch.tensor([10.0, 9.0, 8.0])
            return logits

    settings = {"temperature": 0, "max_new_tokens": 3}
    assert generate(Fixed([]), tokenizer, "", **settings) == "aaa"
    assert generate(Fixed([]), tokenizer, "", repetition_penalty=2.0, **settings) == "abc"
    assert generate(Fixed([]), tokenizer, "b", repetition_penalty=2.0, **settings) == "aca"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ([], "one, two; three"),
        (["two"], "one, "),
        (["two;", "two"], "one, "),
        (["; three!", "tr"], "one, two; three"),  # begun and not finished
        (["ee", "thr"], "one, two; "),
        ([", tw", "ne"], "o"),
        (["o"], ""),
    ],
)
def test_stop_strings(tokenizer, stop, text):
    script = tokenizer.encode("one, two; three")
    whole = generate(Scripted([*script, EOS]), tokenizer, "", temperature=0, stop=stop)
    pieces = list(generate(Scripted([*script, EOS]), tokenizer, "", temperature=0, stop=stop, stream=True))
    assert whole == text
    assert "".join(pieces) == text  # nothing was streamed that had to be taken back
    both = generate(Scripted([*script, EOS], [*script, EOS]), tokenizer, ["", ""], temperature=0, stop=stop)
    assert both == [text, text]


def test_a_stop_string_ends_the_work(tokenizer):
    scripted = Scripted(tokenizer.encode("one, two, three"))
    assert generate(scripted, tokenizer, "", temperature=0, stop=[","]) == "one"
    assert scripted.drawn == 4


def test_what_can_not_begin_a_stop_string_streams_at_once(tokenizer):
    scripted = Scripted(tokenizer.encode("abcdabx"))
    pieces = generate(scripted, tokenizer, "", temperature=0, stop=["abx"], stream=True)
    assert [(piece, scripted.drawn) for piece in pieces] == [("abc", 3), ("d", 4)]


def test_a_control_token_can_end_the_text(tokenizer):
    turn = CONTROL.index("<end_of_turn>")
    script = [*tokenizer.encode("yes"), turn, *tokenizer.encode("more")]
    assert generate(Scripted(script), tokenizer, "", temperature=0, stop=["<end_of_turn>"]) == "yes"


def test_only_one_prompt_streams(tokenizer):
    with pytest.raises(RequestError, match="these are 2"):
        generate(model(), tokenizer, ["a", "b"], stream=True)


def test_a_prompt_without_a_token():
    with pytest.raises(RequestError, match="no token"):
        generate_batch(model(), [[2], []])


def test_weights_that_are_no_numbers(tokenizer):
    broken = model()
    with torch.no_grad():
        broken.model.norm.weight[0] = math.nan
    with pytest.raises(WorkError, match="not finite"):
        generate(broken, tokenizer, "To be")


def test_the_folder_is_the_function_too(tokenizer):
    text = gemmule.generate(model(), tokenizer, "To be", max_new_tokens=5)
    assert text == generate(model(), tokenizer, "To be", max_new_tokens=5)
