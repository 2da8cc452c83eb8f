"""Noise of known kinds and amounts, planted over real text: what the refinery is measured by.

Each text says what it is and what it should become, so that precision and recall of every step can be counted. All of
it follows from the seed. `benchmarks/refining.py` and `gemmule study refined-or-raw` use it.
"""

from gemmule.studies.noise.planting import KINDS, Noisy, each, plant
from gemmule.studies.noise.texts import speeches, works

__all__ = ["KINDS", "Noisy", "each", "plant", "speeches", "works"]
