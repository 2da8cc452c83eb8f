"""Models in and out of gemmule, for other programs, and the card that says what a model is.

    importing       any Gemma 2 (folder, hub id, GGUF) as a gemmule model folder
    exporting       a model folder for transformers or llama.cpp
    folder          publishes a model folder
    file_types      the types of number that an exported model can have
    gguf_names      what a GGUF file calls the parts of a Gemma 2, and where it differs
    gguf_read       weights and configuration out of a GGUF file
    gguf_write      a model as a GGUF file
    gguf_tokenizer  a tokenizer as GGUF metadata, and back
    card            the model card

Nothing is imported here: reading a recipe needs none of it.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
