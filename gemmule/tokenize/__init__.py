"""Documents to token shards: the tokenizer, trained here or loaded; the token stream on disk; windows of it.

tokenizer  what every later step uses, loaded from any model folder; `gemmule.load_tokenizer`
training   byte-level BPE from a recipe's own text
prune      a large tokenizer without the tokens that a text does not use
parts      long texts, tokenized in parts
shards     the token stream; `gemmule.TokenShards`
windows    windows of it, in the order of training
"""

from typing import TYPE_CHECKING

from gemmule.base.lazy import names

if TYPE_CHECKING:
    from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer, save
    from gemmule.tokenize.training import train

__all__ = ["Tokenizer", "load_tokenizer", "save", "train"]

__getattr__ = names(
    __name__, {"Tokenizer": "tokenizer", "load_tokenizer": "tokenizer", "save": "tokenizer", "train": "training"}
)
