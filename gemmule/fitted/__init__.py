"""`gemmule init`: a recipe fitted to a text and to this machine.

looking     what the text is: its files, the field that holds it, documents, bytes a token
sizes       shapes and budgets of tokens for it: rules, and where they come from
writing     the recipe, with comments
whole       all of it together, with the estimate on top
"""

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)
