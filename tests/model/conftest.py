"""The fixtures of tests/random_models.py."""

from random_models import fill, make_model

__all__ = ["fill", "make_model"]
