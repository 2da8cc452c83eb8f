"""How likely a model finds given tokens after given prompts, whatever the model: for tasks that compare answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from gemmule.base.progress import Meter
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.teach.teachers.teacher import Teacher, logits_of


@torch.no_grad()
def losses(model: Teacher, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], title: str) -> list[float]:
    """Of each (prompt, answer) in ids, neither empty: the answer's negative log-probability after the prompt, in nats.

    A batch is as many tokens as an evaluation reads at once, or one pair that is longer; logits are made of the
    answers' tokens only. `title` is for the progress line.

    Raises RequestError if the model gives no whole distributions.
    """
    found = [0.0] * len(pairs)
    lengths = [len(prompt) + len(answer) - 1 for prompt, answer in pairs]  # the last token is only predicted
    done = 0
    with Meter(title, max(1, sum(lengths))) as meter:
        for batch in _batches(lengths, tokens_at_once(model.vocabulary_size)):
            longest = max(lengths[pair] for pair in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.int64)
            rows: list[int] = []
            targets: list[int] = []
            counts = []
            for row, pair in enumerate(batch):
                prompt, answer = pairs[pair]
                ids[row, : lengths[pair]] = torch.tensor([*prompt, *answer[:-1]])
                rows += range(row * longest + len(prompt) - 1, row * longest + lengths[pair])
                targets += answer
                counts.append(len(answer))
            logits = logits_of(model.expect(ids.to(model.device)), torch.tensor(rows, device=model.device))
            each = F.cross_entropy(logits, torch.tensor(targets, device=model.device), reduction="none")
            for pair, loss in zip(batch, each.double().split(counts), strict=True):
                found[pair] = float(loss.sum())
            meter.update(done := done + sum(lengths[pair] for pair in batch))
    return found


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The numbers of all, those of like length together, so that padded to the longest they are `tokens` at most."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if batch and (len(batch) + 1) * lengths[number] > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
