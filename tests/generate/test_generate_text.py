"""Text as it comes against the tokenizer's own decoding of all ids at once, for each kind of decoder."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gemmule.generate.text import TextStream, continuation
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.tokenize.tokenizer import Tokenizer

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = [" ", "  ", "a", "th", " the", "the", " king", "한국", "어", "\ufffd", "e\u0301", "\n", "x y", "<b>", "."]
DRAWN = [0x20, 0x41, 0x42, 0x80, 0xB4, 0x96, 0xEC, 0xE2, 0xF0, 0x9F, 0xFF, 0xC3]  # halves, wholes and nonsense
SAMPLED = 100  # examples a kind


def made(vocabulary, decoder, model=models.WordLevel):
    names = dict.fromkeys([*CONTROL, *vocabulary])
    inner = tokenizers.Tokenizer(model({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    if decoder is not None:
        inner.decoder = decoder
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL])
    inner.add_tokens([AddedToken("<table>", normalized=False), AddedToken("été", normalized=False)])
    return Tokenizer(inner)


def sentencepiece(*more):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *more]
    return made([piece.replace(" ", "▁") for piece in PIECES] + BYTES, decoders.Sequence(steps))


def byte_level():
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    whole = "한국어 th".encode()
    letters = dict(zip(range(256), _letters(), strict=True))
    runs = [whole[:i] for i in range(1, len(whole) + 1)] + [whole[i:] for i in range(1, len(whole))]
    names = ["".join(letters[byte] for byte in run) for run in runs]
    return made([*letters.values(), *names], decoders.ByteLevel())


def _letters():
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256))
    return [chr(byte) if byte in prints else chr(256 + next(others)) for byte in range(256)]


KINDS = {
    "byte level": byte_level(),
    "Gemma": sentencepiece(),
    "Llama 2": sentencepiece(decoders.Strip(" ", 1, 0)),
    "metaspace": made([piece.replace(" ", "▁") for piece in PIECES], decoders.Metaspace()),
    "WordPiece": made(["the", "##th", "king", ".", "##.", "do", "n't"], decoders.WordPiece()),
    "BPE with suffixes": made(["the", "king</w>", "th", "e</w>"], decoders.BPEDecoder("</w>")),
    "none": made(PIECES, None),
    "bytes among others": made(_letters(), decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])),
}


def ids_of(tokenizer):
    """Any ids, bytes and controls among them; some that no token has."""
    last = tokenizer.vocabulary_size + 1
    likely = [tokenizer.inner.token_to_id(BYTES[byte]) for byte in DRAWN]
    return st.lists(st.one_of(st.integers(0, last), st.sampled_from([n for n in likely if n is not None] or [4])),
                    max_size=50)  # fmt: skip


def without_half(tokenizer, ids, text):
    """The whole's text, less the half of a character that it may end with."""
    text_ids = [n for n in ids if n >= len(CONTROL) and n < tokenizer.vocabulary_size]
    names = [tokenizer.inner.id_to_token(number) for number in text_ids]
    for half in (1, 2, 3):
        tail = [names[-count] if count <= len(names) else "" for count in range(half, 0, -1)]
        if not all(name in BYTES for name in tail):
            break
        content = bytes(BYTES.index(name) for name in tail)
        try:
            content.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and error.start == 0:
                return tokenizer.decode(text_ids[:-half])
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_text_of_the_whole(kind):
    tokenizer = KINDS[kind]

    @settings(max_examples=SAMPLED, deadline=None, derandomize=True, database=None)
    @given(ids_of(tokenizer))
    def check(ids):
        stream = TextStream(tokenizer)
        pieces = [*map(stream.add, ids), stream.finish()]
        text, whole = "".join(pieces), tokenizer.decode(ids)
        if "yte" in kind:
            assert text in (whole, whole[:-1], whole.rstrip("\ufffd"))
            assert text.rstrip("\ufffd") == whole.rstrip("\ufffd")
        else:
            assert text == without_half(tokenizer, ids, whole)
        given_out = ""
        for place, piece in enumerate(pieces[:-1], 1):
            given_out += piece
            assert whole.startswith(given_out)  # what was given out stays
            now = tokenizer.decode(ids[:place])
            if kind == "byte level":
                assert given_out in (now, now[:-1])  # nothing whole waits

    check()


@pytest.mark.parametrize("kind", ["byte level", "Gemma", "Llama 2", "metaspace", "WordPiece", "none"])
def test_a_text_goes_on_from_its_prompt(kind):
    tokenizer = KINDS[kind]
    first = 4 + 256 if kind == "byte level" else 4
    whole = [
        n for n in range(first, min(first + 12, tokenizer.vocabulary_size)) if "\ufffd" not in tokenizer.decode([n])
    ]
    assert len(whole) > 4
    prompts = st.lists(st.sampled_from(whole)).map(lambda ids: [2, *ids])

    @settings(max_examples=SAMPLED, deadline=None, derandomize=True, database=None)
    @given(prompts, ids_of(tokenizer))
    def check(prompt, ids):
        whole, first = tokenizer.decode([*prompt, *ids]), tokenizer.decode(prompt)
        text = first + continuation(tokenizer, prompt, ids)
        assert text.rstrip("\ufffd") == without_half(tokenizer, [*prompt, *ids], whole).rstrip("\ufffd")

    check()


def test_what_no_byte_can_complete_is_broken():
    """A surrogate's first two bytes, as UTF-8 never has them."""
    gemma = KINDS["Gemma"]
    assert continuation(gemma, [2], named(gemma, "th", "<0xED>", "<0xA0>")) == "th\ufffd\ufffd"
    assert continuation(gemma, [2], named(gemma, "th", "<0xED>", "<0x9F>")) == "th"


def named(tokenizer, *names):
    return [tokenizer.inner.token_to_id(name) for name in names]


def test_the_issue_s_own_cases():
    gemma, llama = KINDS["Gemma"], KINDS["Llama 2"]
    broken = named(gemma, "<0x41>", "<0xFF>", "<0x42>", "th")
    assert continuation(gemma, [2], broken) == gemma.decode(broken) == "\ufffd\ufffd\ufffdth"
    king, said = named(llama, "▁the", "▁king"), named(llama, "▁the", "th")
    assert llama.decode(king) + continuation(llama, [2, *king], said) == "the king theth"
    assert continuation(llama, [2], said) == "theth"
    assert continuation(gemma, [2], named(gemma, "한국", "<0xEC>", "<0x96>")) == "한국"
    assert continuation(gemma, [2], named(gemma, "<0x41>", "<0xEC>")) == "A"
    level = KINDS["byte level"]
    letters = _letters()
    last = "".join(letters[byte] for byte in "한국어".encode()[:7])
    assert continuation(level, [2], named(level, last)) == "한국"
    stream = TextStream(level)
    assert [stream.add(named(level, last)[0]), *map(stream.add, named(level, letters[0x96], letters[0xB4]))] == [
        "한국", "", "어"
    ]  # fmt: skip


def test_a_broken_end_of_the_prompt_changes_nothing_given():
    gemma = KINDS["Gemma"]
    prompt, ids = named(gemma, "<0xEC>", "<0x96>", "<0xB4>"), named(gemma, "<0xFF>", "th")
    assert continuation(gemma, prompt, ids) == "\ufffdth"
    assert continuation(gemma, prompt, named(gemma, *[f"<0x{byte:02X}>" for byte in "서".encode()])) == "서"


@pytest.mark.parametrize("kind", ["byte level", "Gemma", "Llama 2"])
def test_the_work_a_token_takes_does_not_grow(kind, monkeypatch):
    tokenizer = KINDS[kind]
    asked = []
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids: asked.append(len(ids)) or decode(ids))
    stream = TextStream(tokenizer, prompt=[300] * 1000)
    for number in [260, 261, 270, 4, 264] * 200:
        stream.add(number)
    assert sum(asked) < 1000 + 50 * 1000 + 1000


@pytest.mark.parametrize("kind", ["Gemma", "Llama 2"])
def test_a_stop_string_across_pieces_and_bytes(kind):
    tokenizer = KINDS[kind]
    ids = named(tokenizer, "▁the", "<0xEC>", "<0x96>", "<0xB4>", "▁king", "th")
    stream = TextStream(tokenizer, ["어 k"], [2])
    pieces = [*map(stream.add, ids), stream.finish()]
    assert "".join(pieces) == {"Gemma": " the", "Llama 2": "the"}[kind]
    assert stream.ended
    held = TextStream(tokenizer, ["th어x"], [2])
    assert [*map(held.add, named(tokenizer, "th", "어")), held.finish()] == ["", "", "th어"]
    late = TextStream(tokenizer, ["어"], [2])  # the last bytes come out at the end only
    assert [*map(late.add, ids[:4]), late.finish()][-1] == ""
    assert late.ended


def test_a_sample_of_another_architecture_goes_on_from_its_prompt(monkeypatch):
    """As an evaluation writes it, by transformers' own sampling: "the king" and " the" are not "the kingthe"."""
    llama = KINDS["Llama 2"]
    monkeypatch.setattr(llama, "encode", lambda text: named(llama, "▁the", "▁king"))
    monkeypatch.setattr(HuggingFaceTeacher, "write_ids", lambda *_, **__: named(llama, "▁the", "<0x41>", "<eos>"))
    teacher = HuggingFaceTeacher.__new__(HuggingFaceTeacher)
    assert teacher.write(llama, "the king", max_new_tokens=3, temperature=1.0, seed=0) == " theA"
