"""Small experiments that show what the paper's choices do. `gemmule study NAME` runs one and prints its table."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)

STUDIES = {"soft-caps": "what holds attention and logits when the learning rate is too high"}
