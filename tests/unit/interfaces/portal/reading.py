"""A page as a browser takes it: elements in their order, and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

INLINE = frozenset({"a", "span", "strong", "code", "time"})
VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})


@dataclass
class Element:
    """An element with its attributes, and all that stands in it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its text, with single spaces."""
        return " ".join(self._words.split())

    @property
    def _words(self) -> str:
        inner = "".join(one if isinstance(one, str) else one._words for one in self.children)
        return inner if self.tag in INLINE else f" {inner} "

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def all(self, *tags: str) -> list[Element]:
        """The elements of these tags below it, in their order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += ([child] if child.tag in tags else []) + child.all(*tags)
        return found

    def one(self, tag: str) -> Element:
        (found,) = self.all(tag)
        return found

    def of_class(self, name: str) -> list[Element]:
        return [one for one in self.all("p", "section", "span", "ul", "td") if name in one.classes]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> where <{self.open[-1].tag}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(text: str) -> Element:
    """The page; whatever is opened must be closed in its order."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root], [one.tag for one in reader.open]
    return reader.root


def facts(within: Element) -> dict[str, str]:
    """The names and values of all lists of facts."""
    return {row.one("dt").text: row.one("dd").text for row in within.all("div") if row.all("dt")}


def table(page: Element, caption: str) -> list[dict[str, str]]:
    """The rows of the table of this caption, by the heads of its columns; folded ones too."""
    rows = []
    for one in page.all("table"):
        if one.one("caption").text == caption:
            heads = [head.text for head in one.one("thead").all("th")]
            for row in one.one("tbody").all("tr"):
                cells = [cell.text for cell in row.all("th", "td")]
                assert len(cells) == len(heads)
                rows.append(dict(zip(heads, cells, strict=True)))
    return rows
