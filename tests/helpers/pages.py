"""HTML pages as tests see them: held to be well-formed and to load nothing, and read without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import msgspec

from dynbert.manifest import (
    ANYTIME,
    FULL,
    DataLatency,
    Difference,
    Evaluation,
    Latency,
    Manifest,
    MetricValue,
    Precision,
)
from tests.helpers.bundles import rewrite_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.bundles import ToyBundle

__all__ = ["Element", "add_evaluations", "add_latencies", "read_page"]

_VOID = {"meta", "input", "br", "link", "img", "hr"}
_REFERENCES = {"src", "href", "xlink:href", "action", "formaction", "data", "poster", "srcset", "background", "ping"}


@dataclass
class Element:
    """One element with what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def find_all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        """Return the elements inside, in order; ``class_`` finds one of several classes, ``data_x`` ``data-x``."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self._descendants()
            if tag in {None, element.tag} and all(element._has(name, value) for name, value in wanted.items())
        ]

    def find(self, tag: str | None = None, **attributes: str) -> Element:
        """Return the only such element."""
        [element] = self.find_all(tag, **attributes)
        return element

    @property
    def text(self) -> str:
        """All text inside, white space as a browser shows it."""
        return " ".join("".join(self._texts()).split())

    def _has(self, name: str, value: str) -> bool:
        found = self.attributes.get(name)
        return found is not None and (value in found.split() if name == "class" else value == found)

    def _descendants(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._descendants()

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


class _Reader(HTMLParser):
    """Builds the tree; anything that is not closed where it should be is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.stack = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.stack[-1].children.append(element)
        if tag not in _VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack[-1].tag == tag, f"</{tag}> closes <{self.stack[-1].tag}> at {self.getpos()}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data)


def read_page(html: str) -> Element:
    """Read a page, and hold it to what every report is: well-formed, without script, loading nothing."""
    assert html.startswith("<!doctype html>\n<html lang=")
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.stack == [reader.root]
    page = reader.root
    everything = page.find_all()
    identifiers = [element.attributes["id"] for element in everything if "id" in element.attributes]
    assert len(set(identifiers)) == len(identifiers), "an id is there twice"
    assert not page.find_all("script")
    for element in everything:
        assert not any(name.startswith("on") for name in element.attributes)
        assert "style" not in element.attributes
        for name in _REFERENCES & set(element.attributes):
            target = element.attributes[name]
            assert target.startswith("#"), f"{name}={target} leads out of the page"
            assert target[1:] in identifiers
        for name in ("for", "aria-labelledby"):
            assert element.attributes.get(name, identifiers[0]) in identifiers
    for style in page.find_all("style"):
        assert "url(" not in style.text
        assert "@import" not in style.text
    assert "http:" not in html
    assert "https:" not in html
    return page


def add_latencies(bundle: ToyBundle, milliseconds: Callable[[str, Precision, int], float]) -> ToyBundle:
    """Give every graph of a toy bundle latencies at 4, 8 and 16 tokens."""
    graphs = tuple(
        msgspec.structs.replace(
            graph,
            latency=tuple(
                Latency(
                    tokens=tokens,
                    batch=1,
                    threads=1,
                    median_ms=milliseconds(graph.profile, graph.precision, tokens),
                )
                for tokens in (4, 8, 16)
            ),
        )
        for graph in bundle.manifest.graphs
    )
    return rewrite_manifest(bundle, **_fields(bundle.manifest, graphs=graphs))


def add_evaluations(bundle: ToyBundle, *names: str, has_times: bool = True) -> ToyBundle:
    """Give the graphs of a toy bundle, but for the anytime one, evaluations on data of these names."""
    graphs = tuple(
        graph
        if graph.profile == ANYTIME
        else msgspec.structs.replace(
            graph,
            evaluations=tuple(_evaluation(name, graph.profile, graph.precision, has_times=has_times) for name in names),
        )
        for graph in bundle.manifest.graphs
    )
    return rewrite_manifest(bundle, **_fields(bundle.manifest, graphs=graphs))


def _fields(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in ("model", "profiles", "graphs", "cpu")} | changes


def _evaluation(name: str, profile: str, precision: Precision, *, has_times: bool) -> Evaluation:
    is_full, is_fp32 = profile == FULL, precision is Precision.FP32
    value = 0.9 - (0 if is_full else 0.1) - (0 if is_fp32 else 0.01)
    change = value - 0.9
    difference = Difference(value=change, low=change - 0.02, high=change + 0.02, p_value=0.25, test="a test")
    metric = MetricValue(name="exact_match", value=value, low=value - 0.03, high=value + 0.03)
    if not (is_full and is_fp32):
        metric = msgspec.structs.replace(metric, difference=difference)
    second = MetricValue(name="f1", value=value / 2, low=0.1, high=0.5)
    times = DataLatency(inputs=9, threads=1, median_ms=3.0 if is_full else 1.5, p95_ms=7.25) if has_times else None
    return Evaluation(data=name, sha256="0" * 64, examples=1234, metrics=(metric, second), latency=times)
