"""What a recipe will take, before anything runs: parameters, operations, memory, disk and time.

    text            how much text there is: its own steps, run on it or on a sample
    shapes          what each model is: its configuration, or its files' headers
    memory          what training, teaching and evaluating hold, part by part; what lies on disk
    machine         what there is here
    measuring       ten seconds of real steps on it
    timing          operations and seconds
    whole           all of it together, as one `Estimate`
    accelerators    GPUs by name, by their peak
    advice          what teaching costs; what to change where a recipe can't fit
    tables          how it is shown

Nothing is left on disk. docs/estimate.md says how the numbers come about.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
