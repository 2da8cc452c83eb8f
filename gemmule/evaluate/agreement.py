"""How a model agrees with its teacher, by the teacher's entropy: one mean over all tokens hides where it fails.

Tokens are sorted into buckets by the entropy of what the teacher expects there. At low entropy there is one answer to
get right; at high entropy there is a whole distribution to match, and which token comes first says little.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ENTROPIES = (0.5, 1.0, 2.0, 3.0)  # nats: where one bucket ends and the next begins


class Agreement:
    """Counts, KL divergences and equal first tokens, by the teacher's entropy."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, len(ENTROPIES) + 1, dtype=torch.float64)

    def add(self, entropy: Tensor, divergence: Tensor, same: Tensor) -> None:
        """Of N tokens the teacher's entropy, the KL divergence from it, and whether both put the same token first."""
        buckets = torch.bucketize(entropy, torch.tensor(ENTROPIES, device=entropy.device), right=True)
        added = torch.stack([torch.ones_like(divergence), divergence, same])
        self.sums.index_add_(1, buckets.cpu(), added.double().cpu())

    @property
    def divergence(self) -> float:
        """The mean KL divergence, nats per token."""
        return float(self.sums[1].sum() / self.sums[0].sum())

    @property
    def agreement(self) -> float:
        """How often both put the same token first."""
        return float(self.sums[2].sum() / self.sums[0].sum())

    def buckets(self) -> list[dict[str, Any]]:
        """For each bucket its entropies [from, to), count of tokens, KL and agreement (None where it is empty)."""
        edges = (0.0, *ENTROPIES, None)
        return [
            {
                "from": edges[place],
                "to": edges[place + 1],
                "count": int(count),
                "kl": divergence / count if count else None,
                "agreement": same / count if count else None,
            }
            for place, (count, divergence, same) in enumerate(self.sums.T.tolist())
        ]
