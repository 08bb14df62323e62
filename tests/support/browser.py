"""A real browser for tests: Chromium, driven by Playwright in a thread of its own.

Playwright's plain API runs an event loop in the thread that uses it for as long as it is there, and `asyncio.run` in
that thread then fails. So a test says what to do with a page, and the browser's thread does it:

    tab = open_tab(server.url)
    tab.open("/ui")
    assert tab.do(lambda page: page.get_by_role("heading", level=1).inner_text()) == "Models"
    tab.assert_clean()
    assert tab.accessibility() == []

What a page said arrives while that thread is at work, so a look at what a tab has collected goes through `do` too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tests.support.running import peer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response

T = TypeVar("T")
OpenTab = Callable[..., "Tab"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",  # nothing leaves the machine
)
TIMEOUT = 30_000.0  # milliseconds for one step
COMPLAINTS = ("error", "warning", "assert")
UNLOADED = "net::ERR_ABORTED"  # a page that was left takes its requests with it

# Not every violation is an error on the console, and this runs before anything of the page.
WATCH = (
    'addEventListener("securitypolicyviolation", '
    "e => console.error(`CSP: ${e.effectiveDirective} forbids ${e.blockedURI}`))"
)


class Chromium:
    """A browser without a window. Any thread may use it."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1, "chromium")
        try:
            self.do(self._start, path)
        except BaseException:
            self._thread.shutdown()
            raise

    def _start(self, path: str) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            sandbox = os.geteuid() != 0  # root has none
            self._browser = self._playwright.chromium.launch(executable_path=path, args=FLAGS, chromium_sandbox=sandbox)
        except BaseException:
            self._playwright.stop()
            raise

    def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does this in the browser's thread, where alone what is Playwright's may be touched."""
        return self._thread.submit(work, *arguments).result()

    def tab(self, url: str, **context: Any) -> Tab:
        """A new tab, alone in a session of its own.

        Args:
            url: of the server, whose pages it is to show.
            context: options of Playwright's `new_context`, such as `viewport` or `java_script_enabled`.
        """
        steady = {"base_url": url, "locale": "en-GB", "timezone_id": "UTC", "reduced_motion": "reduce"}
        return Tab(self, url, self.do(lambda: self._browser.new_context(**{**steady, **context})))

    def close(self) -> None:
        self.do(self._browser.close)
        self.do(self._playwright.stop)
        self._thread.shutdown()


class Tab:
    """A page, and all that went wrong on it.

    Attributes:
        console: (kind, text) of every message, such as ("warning", "…").
        dialogs: what scripts asked whoever sits before the page.
        errors: what scripts left uncaught.
        failures: requests that came to nothing, and answers with an error, other than the page itself.
        urls: of all requests, in their order.
    """

    def __init__(self, browser: Chromium, url: str, context: BrowserContext) -> None:
        self.console: list[tuple[str, str]] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self.failures: list[str] = []
        self.urls: list[str] = []
        self._browser = browser
        self._origin = urlsplit(url)[:2]
        self._context = context
        self._refused = {f"{url}/favicon.ico"}  # the browser asks for it by itself, once, where a page names no icon
        self._page = browser.do(self._prepared)

    def _prepared(self) -> Page:
        context = self._context
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(WATCH)
        context.on("console", self._note_message)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("dialog", self._note_dialog)
        context.on("request", lambda request: self.urls.append(request.url))
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_response)
        context.on("page", lambda page: page.on("websocket", lambda socket: self.urls.append(socket.url)))
        return context.new_page()

    def _note_message(self, message: ConsoleMessage) -> None:
        # The browser complains here too of a page that is itself an error, as a test may want it.
        if message.location["url"] not in self._refused or not message.text.startswith("Failed to load resource"):
            self.console.append((message.type, message.text))

    def _note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _note_failure(self, request: Request) -> None:
        if request.failure != UNLOADED:
            self.failures.append(f"{request.method} {request.url}: {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.request.is_navigation_request():
            self._refused.add(response.url)
        elif response.status >= 400:
            self.failures.append(f"{response.request.method} {response.url}: {response.status}")

    def do(self, work: Callable[[Page], T]) -> T:
        """Does this with the page, and returns what it returns: text, numbers and the like, nothing of Playwright's
        own."""
        return self._browser.do(work, self._page)

    def open(self, path: str) -> int:
        """Opens a page of the server and returns its status."""

        def go(page: Page) -> int:
            answer = page.goto(path)
            assert answer is not None
            return answer.status

        return self.do(go)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """The value of an expression on the page, or what a function on it makes of the argument."""
        return self.do(lambda page: page.evaluate(script, argument))

    def until(self, script: str, argument: Any = None) -> None:
        """Waits until the expression is true. Playwright's own `wait_for_function` needs `eval`, which the page
        forbids."""
        deadline = time.monotonic() + TIMEOUT / 1000
        while not self.evaluate(script, argument):
            assert time.monotonic() < deadline, f"this did not come true: {script} {argument or ''}"
            time.sleep(0.02)

    def assert_clean(self) -> None:
        """Nothing failed, no script complained or asked, no policy was broken, and nobody but the server was asked."""
        self.evaluate("0")  # what the page said before has arrived when this returns
        complaints = [f"{kind}: {text}" for kind, text in self.console if kind in COMPLAINTS]
        complaints += [f"dialog: {text}" for text in self.dialogs]
        complaints += [f"uncaught: {text}" for text in self.errors] + [f"failed: {text}" for text in self.failures]
        complaints += [f"elsewhere: {url}" for url in self.urls if not self._is_own(url)]
        assert not complaints, "\n".join(complaints)

    def _is_own(self, url: str) -> bool:
        scheme, host, *_ = urlsplit(url.removeprefix("blob:"))
        return scheme == "data" or (scheme.replace("ws", "http"), host) == self._origin

    def accessibility(self) -> list[str]:
        """What axe-core finds wrong with the page as it is."""
        return self.do(_violations)

    def screenshot(self, path: Path) -> None:
        """Writes all of the page into a PNG file."""
        self.do(lambda page: page.screenshot(path=path, full_page=True))

    def close(self) -> None:
        self._browser.do(self._context.close)


def _violations(page: Page) -> list[str]:
    from axe_playwright_python.base import AXE_SCRIPT

    page.evaluate(AXE_SCRIPT)
    # Preloading copies style sheets into inline ones, which the page forbids.
    result = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
    found = []
    for violation in result["violations"]:
        targets = ", ".join(str(part) for node in violation["nodes"] for part in node["target"])
        found.append(f"{violation['id']} ({violation['impact']}): {violation['help']}: {targets}")
    return found


def chromium() -> Iterator[Chromium]:
    """The browser of a session; a laptop without one skips the test, CI must have it."""
    browser = Chromium(peer(next(filter(shutil.which, NAMES), NAMES[0])))
    yield browser
    browser.close()


def tabs(browser: Chromium) -> Iterator[OpenTab]:
    """Opens tabs as `Chromium.tab` does, and closes them in the end."""
    opened: list[Tab] = []

    def open_tab(url: str, **context: Any) -> Tab:
        opened.append(browser.tab(url, **context))
        return opened[-1]

    yield open_tab
    for tab in opened:
        tab.close()
