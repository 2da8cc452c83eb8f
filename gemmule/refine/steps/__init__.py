"""The steps of the refinery, one file each, in the order in which documents go through them.

repair -> languages -> personal data -> quality -> boilerplate -> exact duplicates -> near duplicates -> substrings
       -> minus -> decontaminate -> keep
"""
