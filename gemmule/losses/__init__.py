"""What is trained on at a token: targets, each loss as its formula, and the same fused with the head.

    head        what a target may be; logits from hidden states; the loss of each token as a plain formula
    fused_head  the same for training: a chunk of tokens at a time, gradients included, never all logits
    plain       the losses on logits from anywhere, for a training loop of one's own

`gemmule.losses.forward_kl`, `reverse_kl` and `jsd` are those of `plain`.
"""

from gemmule.losses.plain import forward_kl, jsd, reverse_kl

__all__ = ["forward_kl", "jsd", "reverse_kl"]
