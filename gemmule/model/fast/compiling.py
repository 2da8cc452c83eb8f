"""`torch.compile`, where it pays, and only while it works.

- Training on a CPU gains nothing by it (benchmarks/compiling.py): a step is products and blocked attention, and the
  rest too little. It is compiled on a GPU, or where the recipe says so.
- Generating gains half of a step's time and more (benchmarks/decode.py), once ten seconds of compiling are worth it.
- Without a C++ compiler, or a folder for its cache that can be written, the first step fails; then it is said once and
  everything runs uncompiled.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import torch

from gemmule.base import torch_compat
from gemmule.base.errors import first_line
from gemmule.base.progress import say
from gemmule.model.transformer import Gemma2

Compile: TypeAlias = bool | Literal["auto"]
PAYS_ABOVE = 3e10  # parameters times generated tokens: a step saves some 0.3 ns a parameter, compiling takes 10 s
CACHE = "TORCHINDUCTOR_CACHE_DIR"
Result = TypeVar("Result")

_given_up = False


def prepare(model: Gemma2, setting: Compile) -> None:
    """Compiles the model's backbone for training, if that is wished or likely to pay on its device."""
    on_cpu = model.model.embed_tokens.weight.device.type == "cpu"
    reason = why_no_cache()
    if not _given_up and (setting is True or (setting == "auto" and not on_cpu)):
        if reason is None:
            model.model.compile()
        else:
            _give_up(reason)


def pays_for_generating(model: Gemma2, tokens: int) -> bool:
    """Whether so many steps of one token for each row are likely to pay for compiling a step."""
    on_cpu = model.model.embed_tokens.weight.device.type == "cpu"
    if _given_up or not on_cpu or tokens * model.config.parameters <= PAYS_ABOVE:
        return False
    if (reason := why_no_cache()) is not None:
        _give_up(reason)
    return reason is None


@functools.cache
def why_no_cache() -> str | None:
    """Why the compiler can't write its cache; None if it can.

    PyTorch makes the folder wherever it needs its compiler, compiled or not: where it can't, an empty one is named.
    """
    try:
        folder = Path(os.environ.get(CACHE) or Path(tempfile.gettempdir()) / f"torchinductor_{_user()}").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
            file.flush()
    except OSError as error:
        try:
            os.environ[CACHE] = empty = tempfile.mkdtemp(prefix="gemmule-no-cache-")
            atexit.register(shutil.rmtree, empty, ignore_errors=True)
        except OSError:  # nothing can be written anywhere: whatever needs the folder says so
            os.environ.pop(CACHE, None)
        return f"its cache can't be written: {error}"
    os.environ[CACHE] = str(folder)
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "unknown"


def _give_up(reason: str) -> None:
    global _given_up
    _given_up = True
    say(f"torch.compile does not work here ({reason}); running uncompiled, somewhat slower")


def eager_if_it_fails(work: Callable[[], Result]) -> Result:
    """Runs `work`; if compiling it fails, says so once, gives up compiling and runs it again uncompiled.

    An OSError is taken for the compiler's, of a cache that it can't write, if there is one at work: any other is raised
    by the second try.
    """
    try:
        return work()
    except Exception as error:
        errors = torch_compat.compiler_errors()
        if _given_up or not errors or not isinstance(error, (OSError, *errors)):
            raise
        _give_up(first_line(error))
        torch.compiler.set_stance("force_eager")
        return work()


def eager() -> AbstractContextManager[None]:
    """Within this context compiled models run uncompiled, so that a rare shape costs no compilation."""
    if not torch_compat.compiler_is_loaded():  # nothing was compiled, and to import it would take more than a second
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
