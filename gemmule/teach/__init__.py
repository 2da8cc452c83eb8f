"""A teacher's distributions at every token: live or stored.

teachers/   one file a kind of teacher
targets/    what is kept of its distributions, and how: sampling, packing, the store
teaching    stored targets, made by one process or many
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
