"""A report in a real browser: on a phone and a desk, by day and by night, by keyboard.

``make test-browser`` runs this; it needs Chromium, which pip does not bring, and fails where there is none.
"""

from __future__ import annotations

import os
import shutil
from itertools import combinations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

import dynbert
from dynbert.manifest import FULL, Precision
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import invoke_dynbert
from tests.helpers.pages import add_evaluations, add_latencies

pytestmark = pytest.mark.browser

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SCREENS = {"phone": {"width": 360, "height": 800}, "desk": {"width": 1280, "height": 900}}
_TEXT = (
    "The naïve zoe wrote a good book, and a bad play, by the old tower in Paris; it was a film of running and cafés."
)
_SPEEDS = {FULL: 1.0, "balanced": 0.7, "fast": 0.4, "a-profile-with-a-long-name": 0.3, "anytime": 1.1}
_LENGTHS = {
    FULL: None,
    "balanced": (0.8, 0.6),
    "fast": (0.5, 0.25),
    "a-profile-with-a-long-name": (9, 5),
    "anytime": None,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    toy = make_bundle(tmp_path_factory.mktemp("bundle"), profiles=_LENGTHS, max_length=256)
    timed = add_latencies(
        toy, lambda profile, precision, tokens: _SPEEDS[profile] * tokens * (4 if precision is Precision.FP32 else 1)
    )
    return add_evaluations(timed, "news", "letters")


@pytest.fixture(scope="module")
def report(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    result = invoke_dynbert("report", bundle.folder, "-o", output, "--text", _TEXT, "--text", "A good film.")
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.fail(
            f"one of {', '.join(_BROWSERS)} must be installed: apt-get install --no-install-recommends chromium"
        )
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Open a page; at the end hold it to having said nothing on the console and asked for nothing but itself."""
    contexts, complaints, requests = [], [], []

    def show(path, *, screen="desk", scheme="light", **options):
        context = browser.new_context(viewport=_SCREENS[screen], color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert not complaints
    assert len(requests) == len(contexts)


_everywhere = pytest.mark.parametrize(
    ("screen", "scheme"), [(screen, scheme) for screen in _SCREENS for scheme in ("light", "dark")]
)


def _choices(page):
    """Yield every choice's name and how many panels it has, outer ones before the inner ones they show."""
    for fieldset in page.locator("fieldset.tabs").all():
        yield fieldset.get_attribute("id"), fieldset.locator(":scope > input").count()


def _choose(page, name, index):
    page.locator(f"label[for='{name}-{index}']").click()


def _hidden_width(page):
    return page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")


@_everywhere
def test_nothing_is_wider_than_the_screen(report, open_page, screen, scheme):
    page = open_page(report, screen=screen, scheme=scheme)
    assert _hidden_width(page) == 0
    choices = dict(_choices(page))
    assert set(choices) == {"data", "format", "tokens", "profile"}
    for name, count in choices.items():
        for index in range(count):
            _choose(page, name, index)
            assert _hidden_width(page) == 0


@_everywhere
def test_axe_finds_no_fault_in_first_and_last_panels(report, open_page, screen, scheme):
    page = open_page(report, screen=screen, scheme=scheme)
    for is_last in (False, True):
        for name, count in _choices(page):
            _choose(page, name, count - 1 if is_last else 0)
        found = Axe().run(page, options={"resultTypes": ["violations", "passes"]})
        assert found.violations_count == 0, found.generate_report()
        checked = {rule["id"]: len(rule["nodes"]) for rule in found.response["passes"]}
        assert checked["color-contrast"] > 100


_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const paint = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratios = [];
  const tags = "p, li, dd, dt, td, th, label, legend, caption, del, span, small, a";
  for (const element of document.querySelectorAll(tags)) {
    if (!element.offsetParent || !element.innerText.trim()) continue;
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    const behind = paint(["white", ...layers]), text = paint([`rgb(${behind})`, getComputedStyle(element).color]);
    const [high, low] = [luminance(behind), luminance(text)].sort((x, y) => y - x);
    ratios.push([(high + 0.05) / (low + 0.05), element.innerText.slice(0, 40)]);
  }
  return ratios;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(report, open_page, scheme):
    """Computed here as well, because axe leaves out what it cannot be sure of."""
    page = open_page(report, screen="phone", scheme=scheme)
    ratios = page.evaluate(_CONTRASTS)
    assert len(ratios) > 200
    faint = [(round(ratio, 2), text) for ratio, text in ratios if ratio < 4.5]
    assert not faint


def test_the_dark_is_dark_and_the_light_light(report, open_page):
    def brightness(scheme):
        page = open_page(report, scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 765

    assert brightness("light") > 0.95
    assert brightness("dark") < 0.15


def _visible_profile(page):
    return page.locator("fieldset#profile > .panel:visible p.answer strong").first.inner_text()


def test_profiles_are_reached_by_tab_and_changed_by_arrows(report, open_page):
    page = open_page(report, screen="phone")
    focused = "[document.activeElement.name, document.activeElement.type]"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == ["profile", "radio"]:
            break
    else:
        pytest.fail("Tab must reach the choice of profiles")
    profiles = [name for name in _LENGTHS if name != "anytime"]
    assert _visible_profile(page) == "balanced"
    for expected in (*profiles[2:], *profiles[:2]):
        page.keyboard.press("ArrowRight")
        assert _visible_profile(page) == expected
        assert page.locator("fieldset#profile > .panel:visible").count() == 1
    page.keyboard.press("ArrowLeft")
    assert _visible_profile(page) == FULL
    outline = "getComputedStyle(document.querySelector(`label[for='${document.activeElement.id}']`)).outlineStyle"
    assert page.evaluate(outline) == "solid"


def test_the_first_tab_stop_skips_to_the_report(report, open_page):
    page = open_page(report, screen="phone")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"


def test_panels_change_without_script(report, open_page):
    page = open_page(report, java_script_enabled=False)
    for index, profile in enumerate(name for name in _LENGTHS if name != "anytime"):
        _choose(page, "profile", index)
        assert _visible_profile(page) == profile


def test_what_is_seen_to_survive_is_what_the_api_says(report, bundle, open_page):
    page = open_page(report)
    model = dynbert.load(bundle.folder, threads=1)
    for index, profile in enumerate(name for name in _LENGTHS if name != "anytime"):
        _choose(page, "profile", index)
        [row] = model.kept_tokens(_TEXT, profile=profile)
        left = {str(layer.layer): list(layer.kept) for layer in row.layers}
        shown = page.locator("fieldset#profile > .panel:visible dl.layers").first
        layers = shown.locator("div[data-layer]")
        assert layers.count() > 0
        for layer in layers.all():
            kept = [int(token.get_attribute("data-position")) for token in layer.locator(".kept:visible").all()]
            expected = left[layer.get_attribute("data-layer")]
            assert kept == (expected if len(expected) < len(row.tokens) else [])
            if kept:
                words = [token.inner_text() for token in layer.locator(".kept").all()]
                spans = [row.tokens[position] for position in kept]
                assert words == [_TEXT[span.start : span.end] if span.end else span.piece for span in spans]


def test_names_in_charts_are_legible_and_apart_on_a_phone(report, open_page):
    page = open_page(report, screen="phone")
    for name, count in _choices(page):
        for index in range(count if name in {"data", "format"} else 0):
            _choose(page, name, index)
            texts = page.locator(f"fieldset#{name} > .panel:visible svg text").all()
            boxes = [text.bounding_box() for text in texts]
            assert len(boxes) > 6
            assert all(box["height"] >= 12 for box in boxes)
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
            assert not any(_meet(one, other) for one, other in combinations(boxes, 2))


def _meet(one, other):
    """Return whether two boxes share more than the halo around letters, 1.5 pixels on each side."""
    return (
        one["x"] + 3 < other["x"] + other["width"]
        and other["x"] + 3 < one["x"] + one["width"]
        and one["y"] + 3 < other["y"] + other["height"]
        and other["y"] + 3 < one["y"] + one["height"]
    )


def test_targets_are_large_enough_for_a_finger(report, open_page):
    page = open_page(report, screen="phone")
    boxes = [label.bounding_box() for label in page.locator("fieldset.tabs > label:visible").all()]
    assert len(boxes) > 8
    assert all(box["height"] >= 36 and box["width"] >= 36 for box in boxes)


def test_less_motion_where_that_is_wished(report, open_page):
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert open_page(report).evaluate(behaviour) == "smooth"
    assert open_page(report, reduced_motion="reduce").evaluate(behaviour) == "auto"


def test_these_checks_find_a_faulty_page(browser, tmp_path):
    """A canary: a page of another make that is too wide, too pale and loads something."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<!doctype html><html lang=en><title>x</title><main><h1>x</h1><p style='color:#999;width:500px'>pale</p>"
        "<img src='missing.png' alt='x'></main>",
        encoding="utf-8",
    )
    page = browser.new_page(viewport=_SCREENS["phone"])
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(faulty.as_uri())
    assert _hidden_width(page) > 0
    assert [violation["id"] for violation in Axe().run(page).response["violations"]] == ["color-contrast"]
    assert min(ratio for ratio, _ in page.evaluate(_CONTRASTS)) < 3
    assert complaints
    page.close()
