"""The keys and values of tokens already read, kept so that generating the next one reads only that one.

- Global layers keep every key; local ones only the last `window`, in a ring: no later query sees further back
  (arXiv 2408.00118, section 2). Ring slots stand in any order: attention sums over them, and rotary positions are
  already in the keys.
- Tokens come in any portions: a prompt in chunks, then one by one.
- Prompts of different lengths are padded at the left, so that all rows write the same slot. Attention depends on
  differences of positions alone, so a row may start anywhere; it never sees its padding.

B batch, T new tokens, S keys seen, H heads, K kv heads, C head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemmule.model.attention import causal_mask, reference
from gemmule.model.config import Gemma2Config


class Cache:
    """Empty at first; a model's forward pass reads and extends it.

    `length` is the number of tokens read, padding included, which is also the position of the next one. `padding` [B]
    says how many tokens at the start of each row are none. `capacity` is the length to make room for at once; past it
    the buffers double.
    """

    def __init__(self, config: Gemma2Config, padding: Tensor | None = None, capacity: int = 0) -> None:
        self.length = 0
        self._config, self._padding, self._capacity = config, padding, capacity
        self._longest_padding = 0 if padding is None else int(padding.max())
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}  # of a layer: keys and values [B, K, slots, C]
        self._masks: dict[bool, Tensor] = {}  # of local and of global layers: what to add to the scores

    def start(self, tokens: int, like: Tensor) -> Tensor:
        """Makes ready to read `tokens` more. Gives their positions [T] and makes masks on the device of `like`."""
        positions = torch.arange(self.length, self.length + tokens, device=like.device)
        for local in (True, False):
            self._masks[local] = self._mask(positions, local=local, dtype=like.dtype)
        return positions

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keeps the keys and values [B, K, T, C] of new tokens. Gives what their queries [B, H, T, C] gather."""
        config, local, tokens = self._config, self._config.is_local(layer), query.shape[2]
        keys, values = self._room(layer, key)
        if local and tokens > 1:  # the ring drops keys that the first of the new tokens still see
            kept = min(self.length, config.window)
            seen = torch.cat((keys[:, :, :kept], key), 2), torch.cat((values[:, :, :kept], value), 2)
            last = torch.arange(self.length + max(0, tokens - config.window), self.length + tokens, device=key.device)
            slots = last % config.window
            keys.index_copy_(2, slots, key[:, :, -len(slots) :])
            values.index_copy_(2, slots, value[:, :, -len(slots) :])
        else:
            slot = self.length % config.window if local else self.length
            keys[:, :, slot : slot + tokens] = key
            values[:, :, slot : slot + tokens] = value
            filled = min(self.length + tokens, config.window) if local else self.length + tokens
            seen = keys[:, :, :filled], values[:, :, :filled]
        return reference(query, *seen, mask=self._masks[local], scale=config.score_scale, cap=config.attention_cap)

    def advance(self, tokens: int) -> None:
        """Counts `tokens` as read."""
        self.length += tokens

    def _mask(self, positions: Tensor, *, local: bool, dtype: torch.dtype) -> Tensor:
        """What to add to the scores of new tokens at `positions` [T]; it broadcasts to [B, H, T, S]."""
        window = self._config.window
        oldest = max(0, self.length + 1 - window) if local else 0
        if len(positions) == 1 and oldest >= self._longest_padding:
            return torch.zeros((), dtype=dtype, device=positions.device)  # one token sees all that is kept
        keys = torch.arange(self.length + len(positions), device=positions.device)  # [S]
        if local and self.length >= window:  # slot by slot, as in the ring: the latest position that fell on each
            slots = torch.arange(window, device=positions.device)
            newest = self.length if len(positions) == 1 else self.length - 1
            ring = newest - (newest - slots) % window
            keys = ring if len(positions) == 1 else torch.cat((ring, positions))
        mask = causal_mask(positions, keys, window if local else None, dtype)  # [T, S]
        if self._padding is None:
            return mask
        padded = keys < self._padding.to(keys.device)[:, None, None, None]  # [B, 1, 1, S]
        # padding sees itself, for the softmax of nothing is no number
        return mask.masked_fill(padded & (keys != positions[:, None]), -torch.inf)

    def _room(self, layer: int, key: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers of a layer, with slots for the new tokens of `key` too."""
        B, K, T, C = key.shape
        needed, most = self.length + T, self._config.window if self._config.is_local(layer) else None
        old = self._buffers.get(layer)
        slots = 0 if old is None else old[0].shape[2]
        if slots < needed and slots != most:
            slots = max(needed, self._capacity, 2 * slots)
            slots = slots if most is None else min(slots, most)
            new = key.new_empty(B, K, slots, C), key.new_empty(B, K, slots, C)
            if old is not None:
                for larger, smaller in zip(new, old, strict=True):
                    larger[:, :, : self.length] = smaller[:, :, : self.length]
            self._buffers[layer] = new
        return self._buffers[layer]
