"""How a budget of tokens becomes steps, batches and micro-batches of whole windows. Torch is not imported."""

from __future__ import annotations

from gemmule.recipe import Train

LARGEST_MICRO_BATCH = 8192  # tokens whose activations are kept at once, unless the recipe says otherwise


def windows_per_batch(train: Train, sequence_length: int) -> int:
    return max(1, round(train.batch_tokens / sequence_length))


def steps(train: Train, sequence_length: int) -> int:
    return max(1, round(train.tokens / (windows_per_batch(train, sequence_length) * sequence_length)))


def windows_per_micro_batch(train: Train, sequence_length: int) -> int:
    tokens = train.micro_batch_tokens or LARGEST_MICRO_BATCH
    return min(windows_per_batch(train, sequence_length), max(1, tokens // sequence_length))
