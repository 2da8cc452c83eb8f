"""What a model gains from text that lies further back than two windows: the loss on tokens whose evidence is there.

A token has its evidence far back if it ends three tokens in a row that stood before in the same document, the last time
two sliding windows back or more, and that no other document has: names and turns of phrase that only a far look can
know. On such tokens the loss is measured twice: with all before them that the model's context holds, and with the
context cut to the last two windows. What the second is above the first is the gain from the far look.

The kind of measure is that of Khandelwal et al. 2018 (arXiv 1805.04623): the same loss with less context.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.likelihood import losses

GRAM = 3  # tokens in a row
WINDOWS_BACK = 2
MOST = 256  # tokens that are measured, each after two contexts
MOST_READ = 2**21  # tokens of text that are searched


class Stretch(NamedTuple):
    """What a model reads of a document at once: the whole, or a part as long as its context has room for."""

    document: int
    ids: list[int]


def run(asked: Asked) -> dict[str, Any]:
    """Loss in nats a token: `loss` with the whole context, `loss_cut` with the last two windows, `gain` between them.

    All three are None where no token has its evidence far back. `found` of the `tokens` that were searched have, and
    `count` of these, drawn evenly, were measured. `window` is the model's sliding window, or a quarter of its context
    where it has none, as `window_is` says.

    Raises RequestError without text, or if the context has no room for more than two windows.
    """
    if not asked.texts:
        raise RequestError("evidence is looked for in your text: give TEXT")
    own = asked.model.window
    window = own or asked.context // (2 * WINDOWS_BACK)
    reach, opening = WINDOWS_BACK * window, asked.tokenizer.opening
    room = asked.context - len(opening)
    if window < 1 or room < reach + GRAM:
        raise RequestError(
            f"evidence: the model reads {asked.context:,} tokens, and two windows of {window:,} are {reach:,}: nothing "
            "lies further back"
        )
    stretches = _stretches(asked, room)
    far = far_evidence(stretches, reach)
    drawn = sorted(Random(asked.seed).sample(far, min(MOST, len(far))))
    whole, cut = [], []
    for stretch, place in drawn:
        ids = stretches[stretch].ids
        whole.append((opening + ids[:place], ids[place : place + 1]))
        cut.append((opening + ids[place - reach + 1 : place], ids[place : place + 1]))
    loss, loss_cut = (_mean(losses(asked.model, pairs, "evidence")) for pairs in (whole, cut))
    return {
        "loss": loss,
        "loss_cut": loss_cut,
        "gain": None if loss is None or loss_cut is None else loss_cut - loss,
        "count": len(drawn),
        "found": len(far),
        "tokens": sum(len(stretch.ids) for stretch in stretches),
        "window": window,
        "window_is": "the model's sliding window" if own else "a quarter of the context: the model has no window",
    }


def far_evidence(stretches: list[Stretch], reach: int) -> list[tuple[int, int]]:
    """The tokens whose evidence lies `reach` tokens back or further: (number of the stretch, place in it), in order.

    Three in a row are the same token's evidence if they are equal; that they are rare is counted over all stretches.
    """
    columns = []  # of each three in a row: the three ids, document, stretch, place of the last one
    for number, (document, ids) in enumerate(stretches):
        count = len(ids) - GRAM + 1
        if count > 0:
            row = np.asarray(ids, np.int64)
            grams = [row[start : start + count] for start in range(GRAM)]
            where = np.full(count, document), np.full(count, number), np.arange(GRAM - 1, len(ids))
            columns.append(np.stack([*grams, *where]))
    if not columns:
        return []
    table: NDArray[np.int64] = np.concatenate(columns, axis=1)
    table = table[:, np.lexsort(table[::-1])]  # equal ones together, in the order of the text
    same = (table[:GRAM, 1:] == table[:GRAM, :-1]).all(0)
    group = np.concatenate([[0], (~same).cumsum()])
    document, stretch, place = table[GRAM:]
    first_document, last_document = (np.zeros(group[-1] + 1, np.int64) for _ in range(2))
    last_document[group] = document  # of those put in one place the last one stays
    first_document[group[::-1]] = document[::-1]
    rare = (first_document == last_document)[group[1:]]
    far = same & rare & (stretch[1:] == stretch[:-1]) & (place[1:] - place[:-1] >= reach)
    return sorted(zip(stretch[1:][far].tolist(), place[1:][far].tolist(), strict=True))


def _stretches(asked: Asked, room: int) -> list[Stretch]:
    """Of documents in an order drawn by the seed, until they are enough to search."""
    order = list(range(len(asked.texts)))
    Random(asked.seed).shuffle(order)
    stretches: list[Stretch] = []
    left = MOST_READ
    for document in order:
        ids = asked.tokenizer.encode(asked.texts[document])[:left]
        stretches += [Stretch(document, ids[start : start + room]) for start in range(0, len(ids), room)]
        left -= len(ids)
        if not left:
            break
    return stretches


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
