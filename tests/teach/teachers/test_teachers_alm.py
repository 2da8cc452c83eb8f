"""A teacher of another tokenizer: chunks that end at the same byte, and their losses, against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from large_tokenizers import like_gemma, like_gpt2, read_work

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.alm import END, ByteAligned, token_bytes
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize import Tokenizer, train
from gemmule.tokenize.windows import Batch

TEXTS = ["Shall I compare thee to a summer's day?\n\n\nCafé naïve 日本", "Thou art more lovely <b>and</b> 1609", "x"]
LENGTH = 24


def random_model(vocabulary_size: int, seed: int) -> Gemma2:
    config = Gemma2Config(
        vocabulary_size=vocabulary_size, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn_width=32, window=8,
        context_length=256,
    )  # fmt: skip
    model = Gemma2(config).initialise(seed)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2)
    return model


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train(read_work("sonnets"), 600)


@pytest.fixture(scope="module")
def theirs() -> Tokenizer:
    return like_gemma(read_work("hamlet"), 900)


@pytest.fixture(scope="module")
def teacher(theirs: Tokenizer) -> Gemma2Teacher:
    return Gemma2Teacher(random_model(theirs.vocabulary_size, 5).eval())


@pytest.fixture
def batch(ours: Tokenizer) -> Batch:
    """All text, end after end, in windows that begin and end anywhere, one within a character; the last is short."""
    stream = [token for text in TEXTS for token in [*ours.encode(text), ours.eos_id]]
    windows = -(-len(stream) // LENGTH)
    targets = np.full((windows, LENGTH), ours.pad_id)
    targets.ravel()[: len(stream)] = stream
    mask = np.arange(windows * LENGTH).reshape(targets.shape) < len(stream)
    inputs = np.concatenate([np.full((windows, 1), ours.bos_id), targets[:, :-1]], 1)
    return Batch(inputs, targets, mask, np.arange(windows) * LENGTH)


def test_the_bytes_of_tokens_make_the_text(ours: Tokenizer, theirs: Tokenizer) -> None:
    for tokenizer in (ours, theirs, like_gpt2(read_work("sonnets"), 600)):
        pieces = token_bytes(tokenizer)
        for text in (*TEXTS, "\x00\x7f\u00a0ÿ😀 ā"):
            assert b"".join(pieces[number] for number in tokenizer.encode(text)) == text.encode()
        assert pieces[tokenizer.eos_id] == END
        assert pieces[tokenizer.bos_id] == b""


def naive(batch: Batch, teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer):
    """Walks through the bytes of each window. Gives (student's target places, teacher's loss) of every chunk."""
    found = []
    for row in range(len(batch.targets)):
        tokens = batch.targets[row][batch.mask[row]].tolist()
        pieces = [token_bytes(ours)[token] for token in tokens]
        whole = b"".join(pieces)
        skipped = 0
        while whole[skipped] != 0xFF and whole[skipped] & 0xC0 == 0x80:
            skipped += 1
        parts = [part.decode(errors="ignore") for part in whole[skipped:].split(END)]
        ids = []
        for number, part in enumerate(parts):
            ids += theirs.encode(part) + ([theirs.eos_id] if number < len(parts) - 1 else [])
        log_p = torch.log_softmax(teacher.model(torch.tensor([[theirs.bos_id, *ids]])).detach()[0], -1)
        ends, position = {}, skipped
        for place, token in enumerate(ids):
            position += len(token_bytes(theirs)[token])
            ends[position] = place
        position, places, done = 0, [], 0
        for place, piece in enumerate(pieces):
            if position >= skipped:
                places.append(row * LENGTH + place)
            position += len(piece)
            if position in ends and position > skipped:
                loss = -sum(float(log_p[i, ids[i]]) for i in range(done, ends[position] + 1))
                found.append((places, loss))
                places, done = [], ends[position] + 1
    return found


def test_chunks_are_those_of_a_walk_through_the_bytes(
    batch: Batch, teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer
) -> None:
    chunks = ByteAligned(teacher, theirs, ours).targets(batch)
    expected = naive(batch, teacher, theirs, ours)
    assert len(expected) > 10
    assert max(len(places) for places, _ in expected) > 2
    got = [torch.nonzero(chunks.of_token == number).flatten().tolist() for number in range(len(chunks.losses))]
    assert got == [places for places, _ in expected]
    torch.testing.assert_close(chunks.losses, torch.tensor([loss for _, loss in expected]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_value_and_gradient_are_those_of_a_naive_loop(
    batch: Batch, teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer, share: float
) -> None:
    model = random_model(ours.vocabulary_size, 1)
    targets, mask = torch.from_numpy(batch.targets), torch.from_numpy(batch.mask)
    chunks = ByteAligned(teacher, theirs, ours).targets(batch)
    mixed = ((1 - share, chunks), (share, targets)) if share else chunks
    loss = model(**batch.model_inputs("cpu"), targets=mixed, divergence="alm", mask=mask, denominator=7.0)
    loss.backward()
    got = {name: weight.grad.clone() for name, weight in model.named_parameters()}

    model.zero_grad()
    log_q = torch.log_softmax(model(torch.from_numpy(batch.inputs)), -1).flatten(0, 1)
    own = -log_q[torch.arange(len(log_q)), targets.flatten()]
    total = own.new_zeros(())
    for places, a in naive(batch, teacher, theirs, ours):
        b = sum(own[place] for place in places)
        total = total + (1 - share) * (a * torch.log(a / b) + b - a)
    total = (total + share * own[mask.flatten()].sum()) / 7
    total.backward()
    torch.testing.assert_close(loss.detach(), total.detach(), rtol=1e-4, atol=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(got[name], weight.grad, rtol=2e-3, atol=1e-5)


def test_where_both_are_the_same_there_is_nothing_to_learn(batch: Batch, ours: Tokenizer) -> None:
    model = random_model(ours.vocabulary_size, 1)
    chunks = ByteAligned(Gemma2Teacher(model), ours, ours).targets(batch)
    same = model(**batch.model_inputs("cpu"), targets=chunks, divergence="alm", denominator=1.0)
    assert same < 0.5  # but for what a window's edges cut otherwise; the next-token loss is above 100
