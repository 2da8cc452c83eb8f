"""The keys and values of tokens already read, kept so that generating the next one reads only that one.

- Global layers keep every key; local ones only the last `window`, for no later query sees further back.
- Tokens come in any portions: a whole prompt, then one by one, or several at once.
- Keys are kept with their rotary positions already applied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemmule.model.attention import causal_mask, reference
from gemmule.model.config import Gemma2Config


class Cache:
    """Empty at first; a model's forward pass reads and extends it.

    `length` is the number of tokens read, which is also the position of the next one.
    """

    def __init__(self, config: Gemma2Config) -> None:
        self.length = 0
        self._config, self._window = config, config.window
        self._local = [config.is_local(layer) for layer in range(config.layers)]
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def first_position(self, *, local: bool) -> int:
        """The position of the oldest key that layers of this kind keep."""
        return max(0, self.length - self._window) if local else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds a layer's new keys and values [B, K, T, C]; gives the kept and the new ones [B, K, S, C] in order.

        `length` moves only with `advance`, when every layer has been extended.
        """
        if layer in self._kept:
            kept_key, kept_value = self._kept[layer]
            key, value = torch.cat((kept_key, key), dim=2), torch.cat((kept_value, value), dim=2)
        last = slice(-self._window, None) if self._local[layer] else slice(None)
        self._kept[layer] = key[:, :, last], value[:, :, last]
        return key, value

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What the queries [B, H, T, C] of new tokens gather from the kept and the new keys: [B, H, T, C]."""
        local = self._local[layer]
        queries = torch.arange(self.length, self.length + query.shape[2], device=query.device)
        keys = torch.arange(self.first_position(local=local), self.length + query.shape[2], device=query.device)
        key, value = self.extend(layer, key, value)
        mask = causal_mask(queries, keys, self._window if local else None, query.dtype)
        return reference(query, key, value, mask=mask, scale=self._config.score_scale, cap=self._config.attention_cap)

    def advance(self, tokens: int) -> None:
        """Counts `tokens` as read."""
        self.length += tokens
