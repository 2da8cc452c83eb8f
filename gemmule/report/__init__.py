"""The report of a run: one HTML file that says who learned from whom and what it was worth.

- `contents.py`: what a report is made from, JSON-like; nothing here imports torch.
- `comparison.py`: students against their controls, and the sentences that say how it ended.
- `plots.py`, `family_picture.py`: the pictures, drawn by hand so that they follow the page's colours.
- `models_table.py`: the table of models, which is also written as CSV and Markdown.
- `agreement_table.py`, `tasks_tables.py`: the tables of agreement, and of what models scored in tasks.
- `page.py`: puts it together with `template.html.jinja` and `style.css`, in the frame of all pages (`base/page/`).
"""

from gemmule.report.contents import ModelReport, ReportData
from gemmule.report.page import write_report

__all__ = ["ModelReport", "ReportData", "write_report"]
