"""Reads pages of the server as a browser would that knows no JavaScript."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import NamedTuple

VOID = frozenset(("br", "img", "input", "link", "meta"))


class Datum(NamedTuple):
    """A value on a page, as a program reads it, and as a person does."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    text: str


class Html(HTMLParser):
    """The elements of a page and its values. Elements that are not closed, or closed twice, fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.data: list[Datum] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._value: dict[str, str] | None = None
        self.feed(text)
        self.close()
        assert not self._open, self._open

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> set[str]:
        """Where this page sends its reader, and what it is made of."""
        found = {given[name] for _, given in self.elements for name in ("href", "src") if name in given}
        return {link for link in found if not link.startswith("#")}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), "an attribute twice"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "data":
            self._value = attributes

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "data":
            self._value = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._value is not None:
            labels = tuple(sorted(json.loads(self._value["data-labels"]).items()))
            self.data.append(Datum(self._value["data-name"], labels, float(self._value["value"]), data))
