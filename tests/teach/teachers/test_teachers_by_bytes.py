"""A teacher of another tokenizer in the student's tokens: held against plain loops over all of its tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from large_tokenizers import like_gemma, read_work

from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.alm import END, token_bytes
from gemmule.teach.teachers.by_bytes import ByBytes
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.teacher import probabilities
from gemmule.tokenize import Tokenizer, train

TEXT = "Shall I compare thee to a summer's day?\n\n\nCafé naïve 日本 thou art"


def teacher_of(tokenizer: Tokenizer) -> Gemma2Teacher:
    config = Gemma2Config(tokenizer.vocabulary_size, 2, 16, 2, 1, 8, 32, 8, context_length=256)
    model = Gemma2(config).initialise(5)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2)
    return Gemma2Teacher(model.eval())


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train(read_work("sonnets"), 400)


@pytest.fixture(scope="module")
def theirs() -> Tokenizer:
    return like_gemma(read_work("hamlet"), 900)


def window(ours: Tokenizer, text: str = TEXT) -> list[int]:
    return [ours.bos_id, *ours.encode(text), ours.eos_id, *ours.encode("More")]


def test_a_teacher_of_the_same_tokenizer_says_what_it_says(ours):
    teacher = teacher_of(ours)
    ids = torch.tensor([window(ours)])
    expected = probabilities(teacher.expect(ids))
    never = [n for n, piece in enumerate(token_bytes(ours)) if not piece or (piece == END and n != ours.eos_id)]
    expected[:, never] = 0  # <bos> and the like; the byte 255
    expected /= expected.sum(-1, keepdim=True)
    torch.testing.assert_close(probabilities(ByBytes(teacher, ours, ours).expect(ids)), expected, rtol=1e-4, atol=2e-7)


def walk(theirs: Tokenizer, ours: Tokenizer, given: list[int]):
    """The teacher's ids of a window, and at each place: how many of them were read, and the bytes since."""
    their_bytes, our_bytes = token_bytes(theirs), token_bytes(ours)
    text = b"".join(our_bytes[token] for token in given)
    ids = []
    for part in text.split(END):
        ids += [*theirs.encode(part.decode(errors="ignore")), theirs.eos_id]
    ids = ids[:-1]
    places, stands = [], 0
    for token in given:
        stands += len(our_bytes[token])
        read = ends = 0
        while read < len(ids) and ends + len(their_bytes[ids[read]]) <= stands:
            ends += len(their_bytes[ids[read]])
            read += 1
        places.append((read, text[ends:stands]))
    return ids, places


def naive(teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer, given: list[int], seen: list[list[int]]):
    """By a loop over every token of the teacher at every place."""
    their_bytes, our_bytes = token_bytes(theirs), token_bytes(ours)
    counts = Counter()
    for other in seen:
        ids, places = walk(theirs, ours, other)
        counts += Counter((since, ids[read], other[place + 1])
                          for place, (read, since) in enumerate(places[:-1]) if read < len(ids))  # fmt: skip
    ids, places = walk(theirs, ours, given)
    p = probabilities(teacher.expect(torch.tensor([[theirs.bos_id, *ids]]))).numpy()
    answers = np.zeros((len(given), ours.vocabulary_size))
    for place, (read, since) in enumerate(places):
        for number, piece in enumerate(their_bytes):
            rest = piece[len(since) :]
            if not piece.startswith(since) or not rest or (piece == END and number != theirs.eos_id):
                continue
            shares = {t: n for (r, u, t), n in counts.items() if (r, u) == (since, number)}
            if not shares:
                shares = {first_token(ours, our_bytes, rest): 1}
            for token, times in shares.items():
                answers[place, token] += p[read, number] * times / sum(shares.values())
    return answers / answers.sum(-1, keepdims=True)


def first_token(ours: Tokenizer, our_bytes: list[bytes], rest: bytes) -> int:
    if rest == END:
        return ours.eos_id
    try:
        return ours.encode(rest.decode())[0]
    except UnicodeDecodeError:
        return our_bytes.index(rest[:1])


@pytest.mark.parametrize("seen", [[], [TEXT, "Shall I come to thee, or shall I not? The king's summers."]])
def test_answers_are_those_of_a_loop_over_every_token(ours, theirs, seen):
    teacher, given = teacher_of(theirs), window(ours)
    side = ByBytes(teacher, theirs, ours)
    windows = [window(ours, text) for text in seen]
    side.look_at(windows)
    got = probabilities(side.expect(torch.tensor([given]))).numpy()
    np.testing.assert_allclose(got, naive(teacher, theirs, ours, given, windows), rtol=1e-3, atol=2e-7)
    ends = [np.cumsum([len(token_bytes(side)[token]) for token in ids])
            for side, ids in ((ours, given), (theirs, theirs.encode(TEXT)))]  # fmt: skip
    assert np.intersect1d(*ends).size < len(ends[1])  # they do differ


def test_a_token_that_goes_on_past_the_teachers_is_learned_from_the_text():
    """The student has "king" as one token, its teacher " k" and "ing": what stands for " k" is seen in the text."""
    ours, theirs = train(["the king the king"] * 50, 269), train(["the thing kept k kk"] * 50, 266)
    king = ours.encode(" king")
    assert len(king) == 1
    assert len(theirs.encode(" king")) > 1
    side = ByBytes(teacher_of(theirs), theirs, ours)
    given = [ours.bos_id, *ours.encode("the king the king")]
    before = probabilities(side.expect(torch.tensor([given])))[1, king[0]]
    side = ByBytes(teacher_of(theirs), theirs, ours)
    side.look_at([given])
    after = probabilities(side.expect(torch.tensor([given])))[1, king[0]]
    assert before < 1e-6
    their_text = [theirs.bos_id, *theirs.encode("the")]
    first = theirs.encode(" king")[0]
    p = probabilities(teacher_of(theirs).expect(torch.tensor([their_text])))[-1]
    never = [n for n, piece in enumerate(token_bytes(theirs)) if not piece or (piece == END and n != theirs.eos_id)]
    assert after == pytest.approx(float(p[first] / (1 - p[never].sum())), rel=1e-4)


def test_windows_of_a_batch_do_not_touch_each_other(ours, theirs):
    side = ByBytes(teacher_of(theirs), theirs, ours)
    one, other = window(ours)[:20], window(ours, "Thou art more lovely and more temperate, " * 3)[:20]
    both = probabilities(side.expect(torch.tensor([one, other])))
    alone = torch.cat([probabilities(side.expect(torch.tensor([row]))) for row in (one, other)])
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-7)


def test_where_the_teacher_can_not_be_asked_the_text_answers(ours, theirs):
    """A window that begins within a character; and U+2581, which Gemma's tokenizer takes for a space."""
    side = ByBytes(teacher_of(theirs), theirs, ours)
    half = [token for token in ours.encode("日本") if token != ours.bos_id][1:]
    p = probabilities(side.expect(torch.tensor([half])))
    assert p[0].argmax() == half[1]
    assert p[0].max() > 0.999
    given = window(ours, "a\u2581b")
    p = probabilities(side.expect(torch.tensor([given])))
    assert p[:-1].argmax(-1).tolist() == given[1:]
    assert (p[:-1].max(-1).values > 0.999).all()


def test_documents_are_not_kept_apart(ours, theirs):
    side = ByBytes(teacher_of(theirs), theirs, ours)
    ids = torch.tensor([window(ours)])
    with pytest.raises(RequestError, match="separate_documents"):
        side.expect(ids, torch.zeros_like(ids))
