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

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gemmule.model.config import Gemma2Config
from gemmule.model.fast.attention import causal_mask, masked
from gemmule.model.fast.rotary import Angles, rotate


class Cache:
    """Empty at first; a model's forward pass reads and extends it.

    `length` is the number of tokens read, padding included, which is also the position of the next one. `padding` [B]
    says how many tokens at the start of each row are none. `capacity` is the length to make room for at once; past it
    the buffers double. With `steady`, a single token is held against every slot, filled or not, so that shapes stay the
    same from step to step and what was compiled serves all.
    """

    def __init__(
        self, config: Gemma2Config, padding: Tensor | None = None, capacity: int = 0, *, steady: bool = False
    ) -> None:
        self.length, self._steady = 0, steady
        self._config, self._padding, self._capacity = config, padding, capacity
        self._slots = {True: 0, False: 0}  # of local and of global layers
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}  # of a layer: keys and values [B, K, slots, C]
        self._how: dict[bool, Callable[..., Tensor]] = {}  # new tokens attend in local and in global layers

    def start(self, tokens: int, like: Tensor) -> Tensor:
        """Makes ready to read `tokens` more, for a batch `like` [B, T, D]. Gives their positions [T]."""
        config, length = self._config, self.length
        self._make_room(tokens, like)
        positions = torch.arange(length, length + tokens, device=like.device)
        for local, window in ((True, config.window), (False, None)):
            mask = self._mask(positions, self._keys(positions, local=local), window, like.dtype)
            how: dict[str, Any] = {"mask": mask, "scale": config.score_scale, "cap": config.attention_cap}
            if not local:
                self._how[local] = partial(_write_then_read, slots=positions, **how)
            elif tokens == 1:
                self._how[local] = partial(_write_then_read, slots=positions % config.window, **how)
            else:
                last = positions[-config.window :] % config.window
                self._how[local] = partial(_read_then_write, slots=last, kept=min(length, config.window), **how)
        return positions

    def attend(self, layer: int) -> Callable[[Tensor, Tensor, Tensor, Angles], Tensor]:
        """How the new tokens attend in a layer: their query, key, value and angles to what the queries gather."""
        return partial(self._how[self._config.is_local(layer)], *self._buffers[layer])

    def advance(self, tokens: int) -> None:
        """Counts `tokens` as read."""
        self.length += tokens

    def _keys(self, positions: Tensor, *, local: bool) -> Tensor:
        """The positions [S] of the keys that new tokens at `positions` [T] are held against, slot by slot.

        A single token may be held against empty slots too: these count as later than the token, and are masked.
        """
        length, window, device = self.length, self._config.window, positions.device
        if len(positions) == 1:
            every, filled = self._slots[local], length + 1
            slots = torch.arange(every if self._steady else min(every, filled), device=device)
            return torch.where(slots > length, slots, _latest(length, slots, window)) if local else slots
        if not local:
            return torch.arange(length + len(positions), device=device)
        slots = torch.arange(min(length, window), device=device)
        return torch.cat((_latest(length - 1, slots, window), positions))

    def _mask(self, positions: Tensor, keys: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores of new tokens at `positions` [T]: [T, S], or [B, 1, T, S] with padding."""
        mask = causal_mask(positions, keys, window, dtype)
        if self._padding is None:
            return mask
        padded = keys < self._padding.to(keys.device)[:, None, None, None]  # [B, 1, 1, S]
        # padding sees itself, for the softmax of nothing is no number
        return mask.masked_fill(padded & (keys != positions[:, None]), -torch.inf)

    def _make_room(self, tokens: int, like: Tensor) -> None:
        """Slots for `tokens` more, in every layer. What is empty is 0, for a masked NaN would still be one."""
        config, needed = self._config, self.length + tokens
        for local in (True, False):
            if self._slots[local] < (min(needed, config.window) if local else needed):
                room = max(needed, self._capacity, 2 * self._slots[local])
                self._slots[local] = min(room, config.window) if local else room
        for layer in range(config.layers):
            slots = self._slots[config.is_local(layer)]
            old = self._buffers.get(layer)
            if old is not None and old[0].shape[2] == slots:
                continue
            new = tuple(like.new_zeros(len(like), config.kv_heads, slots, config.head_dim) for _ in range(2))
            if old is not None:
                for larger, smaller in zip(new, old, strict=True):
                    larger[:, :, : smaller.shape[2]] = smaller
            self._buffers[layer] = new[0], new[1]


def _latest(newest: int, slots: Tensor, window: int) -> Tensor:
    """The latest position up to `newest` that fell on each of the slots of a ring."""
    return newest - (newest - slots) % window


def _write_then_read(
    keys: Tensor, values: Tensor, query: Tensor, key: Tensor, value: Tensor, angles: Angles, *,
    slots: Tensor, mask: Tensor, scale: float, cap: float | None,
) -> Tensor:  # fmt: skip
    """Keeps the new keys and values [B, K, T, C] in `slots` [T]; the queries see the first S slots of the mask."""
    query, key = rotate(query, angles), rotate(key, angles)
    keys.index_copy_(2, slots, key)
    values.index_copy_(2, slots, value)
    seen = mask.shape[-1]
    return masked(query, keys[:, :, :seen], values[:, :, :seen], mask=mask, scale=scale, cap=cap)


def _read_then_write(
    keys: Tensor, values: Tensor, query: Tensor, key: Tensor, value: Tensor, angles: Angles, *,
    slots: Tensor, kept: int, mask: Tensor, scale: float, cap: float | None,
) -> Tensor:  # fmt: skip
    """The same for several tokens and a ring, which drops keys that the first of them still see.

    The queries see the `kept` old keys and all the new ones; the last of these take their `slots`.
    """
    query, key = rotate(query, angles), rotate(key, angles)
    seen = torch.cat((keys[:, :, :kept], key), 2), torch.cat((values[:, :, :kept], value), 2)
    keys.index_copy_(2, slots, key[:, :, -len(slots) :])
    values.index_copy_(2, slots, value[:, :, -len(slots) :])
    return masked(query, *seen, mask=mask, scale=scale, cap=cap)
