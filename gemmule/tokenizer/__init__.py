"""The tokenizer: text to ids and back. Trained here from a recipe's own text, or loaded from any model folder."""

from gemmule.tokenizer.load import Tokenizer, load_tokenizer, save
from gemmule.tokenizer.train import train

__all__ = ["Tokenizer", "load_tokenizer", "save", "train"]
