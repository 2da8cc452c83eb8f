"""Weights in the memory order that a step of one token reads fastest.

A matrix of more outputs than inputs times one vector is a dot product for each of many short rows; stored by columns
it is a sum of few long ones, which MKL computes faster. Shapes, names and values stay, and what `save` writes.
"""

from __future__ import annotations

from gemmule.model.transformer import Gemma2


def lay_out_for_decoding(model: Gemma2) -> Gemma2:
    """Stores the wide matrices of a model on the CPU by columns, one after the other. Gives the model itself."""
    for weight in model.parameters():
        if weight.dim() == 2 and weight.shape[0] > weight.shape[1] and weight.device.type == "cpu":
            weight.data = weight.data.T.contiguous().T
    return model
