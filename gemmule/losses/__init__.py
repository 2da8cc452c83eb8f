"""What is trained on at a token: targets, and one file a loss, its formula beside its gradient fused with the head.

    targets      what can be learned at a token: its id, a teacher's distribution, a sample of that
    forward_kl, reverse_kl, jsd, next_token, alm       the losses, each in a file of its name
    loss         what such a file has
    logits       logits from hidden states and a head
    head         the losses of tokens from whole logits, by the formulas
    fused_head   the same for training: a chunk of tokens at a time, gradients included, never all logits

`gemmule.losses.forward_kl`, `reverse_kl`, `jsd` and `next_token` are functions, for a training loop of one's own. The
model's own forward, `model(ids, targets=..., divergence=...)`, computes the same numbers fused; these take logits from
anywhere. Let N be any leading shape, V the vocabulary. Each takes

    student_logits   [*N, V] float
    teacher          the teacher's logits [*N, V], at temperature 1
    temperature      greater than 0: both are softened by it, and the loss is multiplied by its square, so that its
                     gradients keep their size (Hinton et al. 2015, arXiv 1503.02531)
    mask             [*N] bool, True where a position counts; all when left out

and gives the mean over the counted positions, in nats: a scalar float32.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemmule.losses.forward_kl import forward_kl
    from gemmule.losses.jsd import jsd
    from gemmule.losses.next_token import next_token
    from gemmule.losses.reverse_kl import reverse_kl

__all__ = ["forward_kl", "jsd", "next_token", "reverse_kl"]

# Every file's function takes the file's place, to which Python binds the name when it first imports that.
for _name in [module.name for module in iter_modules(__path__)]:
    _module = import_module(f"{__name__}.{_name}")
    globals()[_name] = getattr(_module, _name, _module)
    if hasattr(_module, "LOSS"):
        import_module(f"{__name__}.loss").LOSSES[_name] = _module.LOSS
