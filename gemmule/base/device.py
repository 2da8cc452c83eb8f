"""Where a model runs."""

from __future__ import annotations

import torch

from gemmule.base.errors import RequestError


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is cuda where this machine has it, else cpu; mps, little tried, if asked for.

    Raises RequestError if the name means nothing or the machine lacks the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdigit()):
        raise RequestError(f"device {name!r}: must be auto, cpu, mps, cuda or cuda:NUMBER")
    if not available[kind] or (kind == "cuda" and index and int(index) >= torch.cuda.device_count()):
        raise RequestError(f"device {name!r}: not available on this machine; auto takes what is")
    return torch.device(name)
