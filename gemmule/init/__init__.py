"""`gemmule init`: a recipe that fits a text and this machine.

inspect_text  what the text is: its files, the field that holds it, documents, bytes a token
sizes         shapes and token budgets for it: rules, and where they come from
writing       the recipe, with comments
fit           all of it together, with the estimate on top
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
