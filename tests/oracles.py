"""Models that write what a function says, over one token a byte: a task's figures are then known by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from gemmule.evaluate.tasks import Asked
from gemmule.losses.targets import DenseTeacher
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.tokenizer import Tokenizer

CONTROL = ["<pad>", "<eos>", "<bos>"]
PAD, EOS, BOS = range(3)


@cache
def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({word: number for number, word in enumerate(CONTROL + alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(CONTROL)
    return Tokenizer(inner)


class Oracle(Teacher):
    """After the last token of each row, all but certain of the id that `following` says of the row's ids."""

    def __init__(self, following: Callable[[list[int]], int]) -> None:
        self.following, self.device = following, torch.device("cpu")
        self.vocabulary_size = byte_tokenizer().vocabulary_size
        self.longest = 0  # row that it read
        self.prompts: list[list[int]] = []
        self.known: set[tuple[int, ...]] = set()

    def expect(self, ids, documents=None):
        logits = torch.full((*ids.shape, self.vocabulary_size), -40.0)
        for row, padded in zip(logits, ids.tolist(), strict=True):
            length = len(padded) - next(place for place, number in enumerate(reversed(padded)) if number != PAD)
            row[length - 1, self.following(padded[:length])] = 0.0
            self.longest = max(self.longest, length)
        return DenseTeacher(logits, None).flatten()

    def continuations(self, prompts, *arguments):
        self.prompts += [list(prompt) for prompt in prompts]
        self.known |= set(map(tuple, prompts))
        return super().continuations(prompts, *arguments)


def writer(answer: Callable[[str], str]) -> Oracle:
    """Writes after each prompt what `answer` says of its text, then `<eos>`. No prompt is the beginning of another."""
    tokenizer = byte_tokenizer()

    def following(ids: list[int]) -> int:
        length = next(length for length in range(len(ids), 0, -1) if tuple(ids[:length]) in oracle.known)
        return [*tokenizer.encode(answer(tokenizer.decode(ids[:length]))), EOS][len(ids) - length]

    oracle = Oracle(following)
    return oracle


def asked(model: Teacher, texts: Sequence[str] = (), context: int = 1000, **more) -> Asked:
    return Asked(model, byte_tokenizer(), context, texts, **more)
