"""What the pages that gemmule writes share (report.html, refinery.html): their frame, look and pictures.

- `frame.py`: the template engine, which escapes whatever comes from a model or a user.
- `layout.html.jinja`: the frame of a page: no scripts, no fonts, nothing from outside, and a policy that forbids them.
- `page.css`: type, colours (light, dark, paper), figures, tables of settings, samples of text. A page adds its own.
- `svg.py`: pieces of SVG.
"""

from gemmule.base.page.frame import environment, visible

__all__ = ["environment", "visible"]
