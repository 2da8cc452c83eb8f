"""Runs a recipe: skips what is made, resumes what was interrupted, refuses to mix settings; its status and summary."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
