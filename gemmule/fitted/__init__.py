"""`gemmule init`: a recipe fitted to a text and to this machine.

looking     what the text is: its files, documents, bytes a token
fields      which field of records holds it
sizes       shapes and budgets of tokens for it: rules, and where they come from
writing     the recipe, with comments
telling     what was decided
whole       all of it together, with the estimate on top
"""

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)
