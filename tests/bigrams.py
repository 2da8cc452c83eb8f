"""A kind of teacher in one file, which the package does not know: how often each token follows each other one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gemmule.teach.teachers.kinds import Kind
from gemmule.teach.teachers.shape import Shape, Sizes
from gemmule.teach.teachers.teacher import Teacher

TABLE = "bigrams.npy"  # [V, V]: log probabilities of the next token


class Bigrams(Teacher):
    def __init__(self, table, device):
        import torch

        self.table = torch.from_numpy(table).to(device)
        self.vocabulary_size, self.device = len(table), device

    def expect(self, ids, documents=None):
        from gemmule.losses.targets import DenseTeacher

        return DenseTeacher(self.table[ids.flatten()], None)

    def sizes(self, sequence_length):
        return Sizes(self.table.numel(), 0, 0.0)

    def write(self, tokenizer, prompt, *, max_new_tokens, temperature, seed):
        ids = tokenizer.encode(prompt) or [tokenizer.eos_id]
        written = []
        for _ in range(max_new_tokens):
            written.append(int(self.table[(ids + written)[-1]].argmax()))
        return tokenizer.decode(written)


class BigramTable(Kind):
    name = "bigrams"
    noun = described_as = "a table of bigrams"
    files = (TABLE,)
    keeps_documents_apart = has_weights = False

    def recognises(self, source):
        return isinstance(source, Path) and (source / TABLE).is_file()

    def shape(self, source, length, vocabulary_size=None):
        rows = len(np.load(source / TABLE, mmap_mode="r"))
        return Shape(rows**2, 0, 0.0, 0.0, rows)

    def load(self, source, device, *, record, key, section, tokenizer):
        return Bigrams(np.load(source / TABLE), device)


KIND = BigramTable()
