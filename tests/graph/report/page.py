"""Read a rendered page as a browser would: balanced tags, text, anchors, what it would fetch."""

from html.parser import HTMLParser
from xml.etree import ElementTree as ET

VOID = {"meta", "br", "link", "img", "hr", "input"}
FETCHING = {"src", "srcset", "href", "data", "poster", "action", "xlink:href", "formaction"}


class Page(HTMLParser):
    """Parse on construction; raises AssertionError where the page is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    @property
    def text(self) -> str:
        """All text a reader can find, style left out."""
        return " ".join(text for tag, text in self.texts if tag != "style")

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def targets(self) -> list[str]:
        """Every value of an attribute that makes a browser go or fetch somewhere."""
        return [
            value
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in FETCHING
        ]

    def named(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def texts_in(self, tag: str) -> list[str]:
        """The text of every element of a name."""
        return [text for name, text in self.texts if name == tag]


def drawn(figure: str) -> ET.Element:
    """Parse a figure as XML; well-formed SVG is both."""
    return ET.fromstring(figure)


def titles(figure: str) -> list[str]:
    """Tool tips of a figure, its own name first."""
    return [element.text or "" for element in drawn(figure).iter("title")]


def classed(figure: str, *words: str) -> list[ET.Element]:
    """Elements that carry all the classes."""
    return [
        element
        for element in drawn(figure).iter()
        if set(words) <= set((element.get("class") or "").split())
    ]
