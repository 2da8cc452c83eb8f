"""refinery.html: what the refinery did to a text, which documents it dropped, and why.

- `record.py`: reads refinery.json; `drops.py`: reads dropped.parquet, and groups it by rule.
- `told.py`: what each step is, in a sentence, and where its method comes from.
- `flow_picture.py`, `lengths_picture.py`: the pictures.
- `page.py`: puts it together with `template.html.jinja` and `style.css`, in the frame of all pages (`base/page/`).
"""

from gemmule.refine.page.page import PAGE, write_page
from gemmule.refine.page.record import Record, StepRecord

__all__ = ["PAGE", "Record", "StepRecord", "write_page"]
