"""How likely a model finds given tokens after given ones, whatever the model: for tasks that compare answers.

- Texts of which one is the beginning of another are read once, as the choices of a question often are.
- Logits exist only for the tokens that are asked about, a chunk at a time (`looking.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from gemmule.base.progress import Meter
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.evaluate.looking import Looking
from gemmule.teach.teachers.teacher import Teacher, rows_of


@dataclass(frozen=True)
class Window:
    """Tokens that are read, and what its last ones should be followed by."""

    ids: list[int]
    targets: list[int]  # that follow the last len(targets) of ids


def losses(model: Teacher, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], title: str) -> list[float]:
    """Of each (prompt, answer) in ids, neither empty: the answer's negative log-probability after the prompt, in nats.

    A batch is as many tokens as an evaluation reads at once, or one pair that is longer. `title` is for the progress
    line.

    Raises RequestError if the model gives no whole distributions.
    """
    windows = [Window([*prompt, *answer[:-1]], [*answer]) for prompt, answer in pairs]
    looking = Looking(model.vocabulary_size, model.device)
    return [-score for score, _ in scores(model, looking, windows, tokens_at_once(model.vocabulary_size), title)]


@torch.no_grad()
def scores(
    model: Teacher, looking: Looking, windows: Sequence[Window], tokens: int, title: str
) -> list[tuple[float, bool]]:
    """Of each window the log-probability of its targets, and whether each is the likeliest token there.

    A batch is at most so many `tokens` with padding, or one window. Of a window without targets (0, True).

    Raises RequestError if the model gives no whole distributions.
    """
    found: list[tuple[float, bool]] = [(0.0, True)] * len(windows)
    readers = _read_together(windows)
    lengths = {number: len(windows[number].ids) for number in readers}
    done = 0
    with Meter(title, max(1, sum(lengths.values()))) as meter:
        for batch in batches(lengths, tokens):
            longest = lengths[batch[0]]
            ids = torch.zeros(len(batch), longest, dtype=torch.int64)
            numbers: list[int] = []  # of the windows that this batch answers
            rows: list[int] = []
            targets: list[int] = []
            for row, host in enumerate(batch):
                ids[row, : lengths[host]] = torch.tensor(windows[host].ids)
                for number in readers[host]:
                    window = windows[number]
                    end = row * longest + len(window.ids)
                    rows += range(end - len(window.targets), end)
                    targets += window.targets
                    numbers.append(number)
            expected = rows_of(model.expect(ids.to(model.device)), torch.tensor(rows, device=model.device))
            looks = looking.look(expected, torch.tensor(targets, device=model.device))
            counts = [len(windows[number].targets) for number in numbers]
            each = zip(numbers, looks.loss.double().split(counts), looks.hit.split(counts), strict=True)
            for number, loss, hit in each:
                found[number] = -float(loss.sum()), bool(hit.all())
            meter.update(done := done + sum(lengths[host] for host in batch))
    return found


def _read_together(windows: Sequence[Window]) -> dict[int, list[int]]:
    """The numbers of the windows to be read, each with those of the windows that it answers: beginnings of its own."""
    found: dict[int, list[int]] = {}
    host: list[int] = []
    asked = (number for number, window in enumerate(windows) if window.targets)
    for number in sorted(asked, key=lambda number: windows[number].ids, reverse=True):  # beginnings come last
        ids = windows[number].ids
        if not found or host[: len(ids)] != ids:
            found[number], host = [], ids
        next(reversed(found.values())).append(number)
    return found


def batches(lengths: Mapping[int, int], tokens: int) -> Iterator[list[int]]:
    """Their numbers, the longest first, in batches of at most so many tokens with padding; at least one in each."""
    order = sorted(lengths, key=lambda number: -lengths[number])
    first = 0
    while first < len(order):
        count = max(1, tokens // max(1, lengths[order[first]]))
        yield order[first : first + count]
        first += count
