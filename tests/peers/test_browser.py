"""The page in a real browser: it is drawn, it lives, it can be used by everybody, and nobody can write on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from metrics_server.web.figure import THEMES
from tests.support.browser import OpenTab, Tab
from tests.support.pages import HOSTILE, JSON, SERIES, hostile_server, stocked_server
from tests.support.running import RESPONSE, RunningServer, ce

REFRESH = 5_000  # milliseconds between two looks of the page at the server
WINE, _, FRAUD, HOUSES = (f"/ui/models/{path}" for path in SERIES)
COMPARED = "/ui/deployments/shop/wine"

FIGURES = "[...document.querySelectorAll('figure[data-chart]')]"
# One document of Bokeh's for each figure, and nothing left to draw.
DRAWN = f"""(() => {{
  const figures = {FIGURES};
  const documents = window.Bokeh?.documents ?? [];
  return figures.length === documents.length
    && figures.every(figure => figure.querySelector('.plot').firstElementChild
        && documents.some(one => one.get_model_by_name(figure.dataset.chart)))
    && documents.every(one => one.is_idle);
}})()"""
COLUMN = """([chart, name]) =>
  [...Bokeh.documents.find(one => one.get_model_by_name(chart)).get_model_by_name(chart).data[name]]"""
WIDER = "document.documentElement.scrollWidth > innerWidth"
INKS = """[...new Set((window.Bokeh?.documents ?? [])
  .flatMap(one => [...one.all_models].filter(model => model.type === 'LinearAxis')
  .map(model => model.axis_label_text_color.value ?? model.axis_label_text_color)))]"""
# What has a text of its own and ends beyond the screen, or beyond what shows it, other than where one can scroll.
CUT_OFF = """[...document.querySelectorAll('body *')].filter(element => {
  const elsewhere = '.hidden, .skip, .plot, details:not([open]) > :not(summary), .scroll:not(:has(> .overview)), '
    + 'pre, option, thead';
  if (element.closest(elsewhere)) return false;
  if (![...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.nodeValue.trim())) return false;
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1
    || (getComputedStyle(element).overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1);
}).map(element => element.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from stocked_server(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from hostile_server(tmp_path_factory.mktemp("hostile"))


def open_drawn(tab: Tab, path: str) -> Tab:
    """Opens a page with a clock that a test can put forward, and waits for its charts."""
    tab.do(lambda page: page.clock.install())
    assert tab.open(path) == 200
    tab.until(DRAWN)
    return tab


def hold(tab: Tab) -> None:
    """Keeps the page from looking at the server by itself, so that nothing that it ought to do at once is made good
    later."""
    tab.do(lambda page: page.get_by_role("button", name="Pause").click())


def put_forward(tab: Tab, milliseconds: int = REFRESH + 100) -> None:
    tab.do(lambda page: page.clock.fast_forward(milliseconds))


def refresh(tab: Tab, shown: str = "true") -> None:
    """Lets the page look at the server until it shows this, its charts too; a view is up to a second old."""
    deadline = time.monotonic() + 40
    is_shown = False
    while not is_shown:
        assert time.monotonic() < deadline, f"this is not shown: {shown}"
        tab.evaluate("document.getElementById('state').textContent += '…'")
        put_forward(tab)
        tab.until("!document.getElementById('state').textContent.endsWith('…')")
        tab.until(DRAWN)
        is_shown = tab.evaluate(shown)


def await_look(tab: Tab, look: str) -> None:
    """Waits until all charts have the colours of a look."""
    tab.until(f"{DRAWN} && {INKS}.every(ink => ink === '{THEMES[look].soft}')")


def await_text(tab: Tab, selector: str, start: str) -> None:
    tab.until("([selector, start]) => document.querySelector(selector)?.innerText.startsWith(start)", [selector, start])
    tab.until(DRAWN)


def text(tab: Tab, selector: str) -> str:
    return tab.do(lambda page: page.locator(selector).first.inner_text())


def rows(said: Iterable[Any], truth: Any, ago: float = 0.0, **names: str) -> list[dict[str, Any]]:
    named = {"namespace": "shop", "deployment": "wine", "predictor": "main", "model": "classifier", **names}
    return [{**named, "prediction": one, "truth": truth, "predicted_at": time.time() - ago} for one in said]


def model_of(word: str) -> str:
    """The page of a series all of whose labels are this word."""
    return "/ui/models" + 4 * f"/{quote(word, safe='')}"


def post(server: RunningServer, statements: list[dict[str, Any]]) -> None:
    assert server.post(statements, JSON, "/v1/feedback").status == 200


@pytest.fixture(scope="module")
def stocked(server: RunningServer) -> RunningServer:
    """A server with a series of every kind, one of them without any label."""
    for n in range(3):
        headers = ce(RESPONSE, f"u{n}", f"u{n}", inferenceservicename="unlabelled")
        assert server.post({"data": {"ndarray": [[0.2, 0.8]]}}, headers).status == 200
    server.post("{", ce(RESPONSE, "broken"))
    return server


VIEWS = {
    "overview": ("/ui", 0),
    "probabilities": (WINE, 5),
    "binary": (FRAUD, 5),
    "regression": (HOUSES, 2),
    "strings": ("/ui/models/shop/beer/main/classifier", 4),
    "a slice": ("/ui/models/shop/beer/main/classifier?slice=tenant%3Da", 1),
    "unlabelled": ("/ui/models/shop/unlabelled/main/classifier", 1),
    "compared": (COMPARED, 1),
    "server": ("/ui/health", 0),
}


# Views that are made of the same parts as others.
ALIKE = ("binary", "regression", "strings", "a slice", "unlabelled", "compared", "server")


@pytest.mark.parametrize(
    "view", [pytest.param(view, marks=[pytest.mark.long] if view in ALIKE else []) for view in VIEWS]
)
def test_every_view_is_drawn_and_can_be_used_by_everybody(stocked: RunningServer, open_tab: OpenTab, view: str) -> None:
    """In both colours axe-core finds nothing and charts are on canvases; from a phone to 4K nothing is cut off; nobody
    complains."""
    path, charts = VIEWS[view]
    tab = open_drawn(open_tab(stocked.url, color_scheme="light"), path)
    assert tab.evaluate(f"{FIGURES}.length") >= charts
    hold(tab)
    for scheme in ("light", "dark"):
        tab.do(lambda page, scheme=scheme: page.emulate_media(color_scheme=scheme))
        await_look(tab, scheme)
        assert tab.accessibility() == [], scheme
        assert (
            tab.evaluate("getComputedStyle(document.body).backgroundColor")
            == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
        )
    for width in (360, 3840, 1280):
        tab.do(lambda page, width=width: page.set_viewport_size({"width": width, "height": 900}))
        tab.until(f"{DRAWN} && !({WIDER})")
        assert tab.evaluate(CUT_OFF) == [], width
    tab.assert_clean()


def test_numbers_and_charts_follow_without_a_reload(serve: Any, open_tab: OpenTab) -> None:
    """The same plot shows new columns, where nothing happened stays a gap, and a new class makes a new plot."""
    server = serve("--store", "memory://", "--windows", "1h")
    post(server, rows("aab", "a", 1200) + rows("b", "b", 1200))
    overview = open_drawn(open_tab(server.url), "/")
    tab = open_drawn(open_tab(server.url), WINE)
    for one in (overview, tab):
        one.evaluate("window.isSame = true")
    tab.evaluate("window.canvas = document.querySelector('#chart-metric_over_time .plot').firstElementChild")
    same = (
        "window.isSame && window.canvas === document.querySelector('#chart-metric_over_time .plot').firstElementChild"
    )
    assert "0.75" in text(tab, ".headline dd")
    before = tab.evaluate(COLUMN, ["metric_over_time", "value"])

    post(server, rows("aaaa", "a"))
    refresh(tab, "document.querySelector('.headline dd').innerText.includes('0.88')")
    refresh(overview, "document.querySelector('.quality').innerText.includes('0.88')")

    assert text(overview, "td[data-heading=labels]") == "8"
    shown = tab.evaluate(COLUMN, ["metric_over_time", "value"])
    assert [value for value in before if value == value] == [0.75]
    assert [value for value in shown if value == value] == [0.75, 1.0]
    assert any(value != value for value in shown[1:-1]), "a gap, not 0"
    assert tab.evaluate(same)
    assert overview.evaluate("window.isSame")
    matrix = tab.evaluate("document.querySelector('#chart-confusion_matrix .plot').getAttribute('aria-label')")
    tab.evaluate("window.matrix = document.querySelector('#chart-confusion_matrix .plot').firstElementChild")

    post(server, rows("c", "c"))
    refresh(tab, "!window.matrix.isConnected")
    assert tab.evaluate(same)
    assert tab.evaluate("document.querySelector('#chart-confusion_matrix .plot').getAttribute('aria-label')") != matrix
    assert sorted(set(tab.evaluate(COLUMN, ["confusion_matrix", "x"]))) == [0, 1, 2]
    for one in (overview, tab):
        one.assert_clean()


def test_an_empty_page_fills_itself(serve: Any, open_tab: OpenTab) -> None:
    """A page that shows how to begin shows the first series as soon as there is one; its commands work."""
    server = serve("--store", "memory://")
    tab = open_drawn(open_tab(server.url), "/")
    assert text(tab, "h1") == "No data yet"
    assert f"curl {server.url}/v1/feedback" in text(tab, "main")
    assert tab.accessibility() == []
    assert not tab.evaluate(WIDER)
    post(server, rows("a", "a"))
    refresh(tab, "document.querySelector('h1').innerText === 'Models'")
    assert text(tab, ".overview tbody a") == "wine"
    tab.assert_clean()


def test_a_server_that_is_gone_is_missed(serve: Any, open_tab: OpenTab) -> None:
    """The page says since when, keeps its numbers, and goes on when the server is back."""
    server = serve("--windows", "1h")
    post(server, rows("aab", "a") + rows("b", "b"))
    tab = open_drawn(open_tab(server.url), WINE)
    tab.evaluate("window.isSame = true")
    server.stop()
    refresh(tab)
    assert text(tab, "#state").startswith("No answer since ")
    assert text(tab, "#state").endswith("; trying again")
    since = text(tab, "#state")
    assert "0.75" in text(tab, ".headline dd")
    assert tab.evaluate("document.body.matches('.stale')")
    assert tab.accessibility() == []
    refresh(tab)
    assert text(tab, "#state") == since, "it keeps on saying since when"

    post(serve("--windows", "1h", port=server.port), rows("aaaa", "a"))
    refresh(tab)
    assert "No answer" not in text(tab, "#state")
    assert "0.88" in text(tab, ".headline dd")
    assert tab.evaluate("window.isSame && !document.body.matches('.stale') && !document.querySelector('.lost')")
    assert not tab.errors


def test_nothing_is_asked_that_nobody_wants(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Pause holds, a page that is not seen does not ask, and both look at once when they go on."""
    tab = open_drawn(open_tab(stocked.url), "/ui")
    pause = "document.getElementById('pause')"
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""

    def asked() -> int:
        return tab.do(lambda page: tab.urls.count(page.url))

    def answered() -> None:
        tab.until("!document.getElementById('state').textContent.endsWith('…')")
        tab.evaluate("document.getElementById('state').textContent += '…'")

    refresh(tab)
    answered()
    before = asked()
    assert before == 2
    tab.evaluate(f"{pause}.click()")
    assert tab.evaluate(f"{pause}.getAttribute('aria-pressed')") == "true"
    put_forward(tab, 10 * REFRESH)
    tab.evaluate(hide, True)
    tab.evaluate(hide, False)
    put_forward(tab, 10 * REFRESH)
    assert asked() == before
    tab.evaluate(f"{pause}.click()")
    answered()
    assert asked() == before + 1
    tab.evaluate(hide, True)
    put_forward(tab, 10 * REFRESH)
    assert asked() == before + 1
    tab.evaluate(hide, False)
    answered()
    assert asked() == before + 2
    tab.assert_clean()


def test_what_if_answers_while_one_tries(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Threshold, costs and class change the words and the mark; a field keeps its focus and what is typed; the address
    keeps all."""
    tab = open_drawn(open_tab(stocked.url), WINE)
    focused = "[document.activeElement.name, document.activeElement.value]"
    address = "location.search"
    chosen = f"({COLUMN})(['threshold_curve', 'chosen']).find(value => !isNaN(value))"

    tab.evaluate("window.plot = document.querySelector('#chart-threshold_curve .plot').firstElementChild")
    tab.do(lambda page: page.get_by_label("Threshold", exact=True).focus())
    for _ in range(30):
        tab.do(lambda page: page.keyboard.press("ArrowRight"))
    put_forward(tab, 200)
    await_text(tab, "#what-if", "At 0.8:")
    tab.until(f"{chosen} === 0.8 && window.plot.isConnected")
    assert tab.evaluate(focused) == ["threshold", "0.8"]
    assert "threshold=0.8" in tab.evaluate(address)

    before = text(tab, "#what-if")
    tab.do(lambda page: page.get_by_label("Cost of a false negative").click(click_count=3))
    tab.do(lambda page: page.keyboard.type("1500.0"))
    refresh(tab)
    refresh(tab)
    tab.do(lambda page: page.keyboard.type("0"))
    assert tab.evaluate(focused) == ["cost_false_negative", "1500.00"], "the server would say 1500"
    put_forward(tab, 200)
    tab.until("before => document.getElementById('what-if').innerText !== before", before)
    assert tab.evaluate(focused) == ["cost_false_negative", "1500.00"]

    tab.do(
        lambda page: page.locator(".what-if select").focus()
    )  # as whoever chooses has it: an answer on its way keeps it
    tab.do(lambda page: page.locator(".what-if select").select_option("0"))
    put_forward(tab, 200)
    await_text(tab, "#chart-threshold_curve figcaption", "Thresholds of class 0")
    assert tab.evaluate(address) == "?class=0&threshold=0.8&cost_false_positive=1&cost_false_negative=1500.00"
    shown = text(tab, "#what-if")
    tab.do(lambda page: page.reload())
    tab.until(DRAWN)
    assert text(tab, "#what-if") == shown
    values = (
        "[...document.querySelectorAll('.what-if select, .what-if input:not([type=hidden])')].map(field => field.value)"
    )
    assert tab.evaluate(values) == ["0", "0.8", "1", "1500"]
    tab.assert_clean()


def test_the_way_back_works(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Another window is shown in place and stands in the address; back shows the one before, a link leads to another
    page."""
    tab = open_drawn(open_tab(stocked.url), f"{WINE}?metric=model_log_loss")
    tab.evaluate("window.isSame = true")
    hold(tab)
    tab.do(lambda page: page.get_by_role("link", name="1d", exact=True).click())
    await_text(tab, ".headline dt", "accuracy in 1d")
    assert tab.evaluate("location.search") == "?metric=model_log_loss&window=1d"
    tab.do(lambda page: page.go_back(wait_until="commit"))
    await_text(tab, ".headline dt", "accuracy in 1h")
    assert tab.evaluate("window.isSame && location.search") == "?metric=model_log_loss"
    assert tab.evaluate("document.querySelector('select[name=metric]').value") == "model_log_loss"
    tab.do(lambda page: page.get_by_role("link", name="canary", exact=True).first.click())
    tab.do(lambda page: page.wait_for_url("**/canary/**"))
    tab.until(DRAWN)
    assert "canary" in text(tab, "h1")
    tab.assert_clean()


def test_a_refresh_leaves_people_where_they_are(stocked: RunningServer, open_tab: OpenTab) -> None:
    """What was opened stays open, the page stays where it was scrolled to, and a link keeps its focus."""
    tab = open_drawn(open_tab(stocked.url, viewport={"width": 500, "height": 600}), WINE)
    for name in (
        "reliability",
        "label_delay" if tab.evaluate("!!document.getElementById('data-label_delay')") else "confusion_matrix",
    ):
        tab.evaluate("name => document.querySelector(`#data-${name} summary`).click()", name)
    tab.evaluate("(window.link = document.querySelector('#predictors a')).focus({preventScroll: true})")
    tab.evaluate("scrollTo(0, 900)")
    opened = "[...document.querySelectorAll('details[open]')].map(one => one.id)"
    before = tab.evaluate(f"[{opened}, scrollY]")
    for n in range(2):
        labels = int(text(tab, "data[data-name=model_support]"))
        post(stocked, rows([[0.1, 0.2, 0.7]], n))
        refresh(tab, f"document.querySelector('data[data-name=model_support]').innerText === '{labels + 1}'")
    assert tab.evaluate(f"[{opened}, scrollY]") == before
    assert len(before[0]) == 2
    assert tab.evaluate("document.activeElement === window.link && window.link.isConnected")
    tab.assert_clean()


@pytest.mark.parametrize("path", ["/ui", pytest.param(WINE, marks=pytest.mark.long)])
def test_the_keyboard_reaches_everything(stocked: RunningServer, open_tab: OpenTab, path: str) -> None:
    """Tab leads from the way past the header through all that can be used, in the order of the page, and its place is
    seen."""
    tab = open_drawn(open_tab(stocked.url), path)
    tab.do(lambda page: page.keyboard.press("Tab"))
    assert text(tab, ":focus") == "Skip to the content"
    assert tab.evaluate(
        "(box => box.top >= 0 && box.left >= 0 && box.height > 10)(document.activeElement.getBoundingClientRect())"
    )
    tab.evaluate(
        """window.usable = [...document.querySelectorAll(
            'a, button, select, input:not([type=hidden]), summary, [tabindex="0"]'
          )].filter(one => one.checkVisibility())"""
    )
    usable = tab.evaluate("usable.length")
    seen = []
    for _ in range(usable):
        seen.append(tab.evaluate("usable.indexOf(document.activeElement)"))
        outline = tab.evaluate(
            "(look => [look.outlineStyle, look.outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert outline == ["solid", "2px"], tab.evaluate("document.activeElement.outerHTML")
        tab.do(lambda page: page.keyboard.press("Tab"))
    assert seen == list(range(usable))
    tab.evaluate("document.querySelector('.skip').focus()")
    tab.do(lambda page: page.keyboard.press("Enter"))
    assert tab.evaluate("document.activeElement.id") == "main"
    tab.do(lambda page: page.keyboard.press("Tab"))
    assert tab.evaluate("document.activeElement === document.querySelector('main a')")
    tab.assert_clean()


@pytest.mark.parametrize(
    "word", [pytest.param(word, marks=[pytest.mark.long] if at else []) for at, word in enumerate(HOSTILE)]
)
def test_names_are_words(hostile: RunningServer, open_tab: OpenTab, word: str) -> None:
    """A name that is a script, a formula or a field of a hover text is shown as it is, on pages and over charts, and
    does nothing."""
    tab = open_tab(hostile.url)
    for path in ("/", f"/ui/deployments/{quote(word, safe='')}/{quote(word, safe='')}"):
        assert tab.open(path) == 200
        tab.until(DRAWN)
    open_drawn(tab, model_of(word))
    assert text(tab, "h1").startswith(word)
    assert word in text(tab, ".by-class")
    elements = "document.querySelectorAll('*').length"
    for chart in tab.evaluate(f"{FIGURES}.map(figure => figure.dataset.chart)"):
        for x, y in ((0.3, 0.3), (0.7, 0.3), (0.5, 0.6)):
            hover(tab, chart, x, y)
    assert tab.evaluate(elements) > 50
    assert tab.evaluate("[...document.querySelectorAll('main img, main script, mjx-container, .MathJax')].length") == 0
    tab.assert_clean()


def hover(tab: Tab, chart: str, x: float, y: float) -> None:
    """Moves the pointer to a place in a chart, given as shares of its width and height."""

    def move(page: Any) -> None:
        plot = page.locator(f"#chart-{chart} .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)

    tab.do(move)


def test_a_chart_tells_what_is_under_the_pointer(hostile: RunningServer, open_tab: OpenTab) -> None:
    """The names in a hover text are text."""
    word = HOSTILE[0]
    tab = open_drawn(open_tab(hostile.url), model_of(word))
    said = """(() => {
      const all = root => [...root.querySelectorAll('*')]
        .flatMap(one => [one, ...(one.shadowRoot ? all(one.shadowRoot) : [])]);
      return all(document).filter(one => one.matches('.bk-tooltip-row-value')).map(one => one.textContent).join(' ');
    })()"""
    hover(tab, "confusion_matrix", 0.4, 0.3)
    tab.until(f"{said}.includes('<img src=x')")
    tab.assert_clean()


def test_the_theme_is_remembered(stocked: RunningServer, open_tab: OpenTab) -> None:
    """The button leads from the system's colours to light and dark; charts follow, and so does the next page."""
    tab = open_drawn(open_tab(stocked.url, color_scheme="dark"), COMPARED)
    assert text(tab, "#theme") == "Theme: auto"
    await_look(tab, "dark")
    hold(tab)
    tab.do(lambda page: page.locator("#theme").click())
    await_look(tab, "light")
    assert text(tab, "#theme") == "Theme: light"
    tab.open("/ui/health")
    assert text(tab, "#theme") == "Theme: light"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.open(COMPARED)
    await_look(tab, "light")
    tab.assert_clean()


@pytest.mark.long
def test_charts_follow_a_theme_that_changes_while_they_are_drawn(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Whatever is under way when the button is pressed, each chart is there once, in the colours of the last press."""
    tab = open_drawn(open_tab(stocked.url, color_scheme="dark"), WINE)
    hold(tab)
    tab.do(lambda page: page.locator("#theme").click())
    await_look(tab, "light")
    tab.evaluate(
        """() => {
          const ask = window.fetch;
          const answers = {};
          const figures = (address, options) => (answers[address] ??= ask(address, options))
            .then(answer => answer.clone());
          window.fetch = (address, options) => (`${address}`.includes('figures=') ? figures : ask)(address, options);
          for (let click = 0; click < 2; click += 1) document.getElementById('theme').click();
        }"""
    )  # two that draw would have their figures at the same moment
    assert text(tab, "#theme") == "Theme: auto"
    await_look(tab, "dark")
    hold(tab)
    for _ in range(6):  # in the midst of drawing
        tab.do(lambda page: page.locator("#theme").click())
    assert text(tab, "#theme") == "Theme: auto"
    await_look(tab, "dark")
    assert tab.evaluate(f"{FIGURES}.every(figure => figure.querySelector('.plot').childElementCount === 1)")
    tab.assert_clean()


def test_without_the_library_there_is_the_data(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Where BokehJS does not come, the page says so and has its numbers; it draws as soon as it comes."""
    tab = open_tab(stocked.url)
    tab.do(lambda page: page.clock.install())
    tab.do(lambda page: page.route("**/bokeh.min.js*", lambda route: route.abort()))
    tab.open(WINE)
    tab.until("document.querySelectorAll('.plot.failed').length > 4")
    assert "cannot be drawn" in text(tab, ".plot")
    assert not tab.errors
    tab.do(lambda page: page.unroute("**/bokeh.min.js*"))
    refresh(tab)
    assert not tab.evaluate("document.querySelector('.failed')")


def test_without_scripts_there_are_tables_and_forms(stocked: RunningServer, open_tab: OpenTab) -> None:
    """Numbers, links and what-if work in a browser that runs no scripts, from a phone on."""
    tab = open_tab(stocked.url, java_script_enabled=False, viewport={"width": 360, "height": 700})
    tab.open("/ui")
    tab.do(lambda page: page.get_by_role("link", name="fraud").click())
    tab.do(lambda page: page.get_by_label("Cost of a false negative").fill("7"))
    tab.do(lambda page: page.locator(".what-if button").click())
    assert tab.do(lambda page: page.get_by_label("Cost of a false negative").input_value()) == "7"
    assert "cost_false_negative=7" in tab.do(lambda page: page.url)
    tab.do(lambda page: page.locator("#data-threshold_curve summary").click())
    assert tab.do(lambda page: page.locator("#data-threshold_curve table").is_visible())
    tab.assert_clean()
