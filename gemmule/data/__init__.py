"""Text in: source files to documents, documents to token shards, shards to windows for training."""

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)
