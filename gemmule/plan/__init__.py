"""From a recipe to the steps that make its artifacts, each after its inputs; and how each is made."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
