"""A page as a reader's browser sees it: parsed, so that tests ask for its structure."""

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects every element (tag, attributes, text) and fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def texts(self, tag: str, class_: str | None = None) -> list[str]:
        return [
            "".join(text)
            for name, attributes, text in self.elements
            if name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())
        ]

    def cells(self, model: str) -> dict[str, str]:
        """Column -> what the table of models says of `model`."""
        found: dict[str, str] = {}
        row = ""
        for tag, attributes, text in self.elements:
            if tag == "th":
                row = "".join(text).split("\n")[0].strip()
            elif tag == "td" and "data-label" in attributes and row == model:
                found[attributes["data-label"] or ""] = "".join(text)
        return found
