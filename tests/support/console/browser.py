"""Chromium, with which tests use the console as an administrator does, and checks of the pages that it shows."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

__all__ = ["DESKTOP", "PHONE", "Console", "launch_browser", "launch_browser_with_page_cache", "serious_violations"]

DESKTOP: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}

AXE = Path(sys.prefix) / "npm" / "node_modules" / "axe-core" / "axe.min.js"
"""Script of axe-core. `./run test` installs the packages of tests/npm there."""

_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]

MAX_TAB_STOPS = 150

_HAS_VISIBLE_FOCUS = """name => {
  const focused = document.activeElement
  const text = focused.labels?.length ? focused.labels[0].innerText : focused.innerText
  return text?.trim().startsWith(name) && getComputedStyle(focused).outlineStyle !== "none"
}"""

_RUN_AXE = """() => axe.run(document, {resultTypes: ["violations"]}).then(result => result.violations
  .filter(found => ["serious", "critical"].includes(found.impact))
  .map(found => `${found.id}: ${found.help}: ${found.nodes.map(node => node.html.slice(0, 200)).join(" ; ")}`))"""


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Yield a Chromium without a window. The variable CHROMIUM names another program."""
    program = which(os.environ.get("CHROMIUM", "chromium"))
    assert program, "Chromium is missing: `./run test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS, timeout=180_000)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def launch_browser_with_page_cache(browser: Browser) -> Iterator[Browser]:
    """Yield another Chromium, which keeps pages for the back button. Playwright turns that off."""
    program, removed = which(os.environ.get("CHROMIUM", "chromium")), ["--disable-back-forward-cache"]
    with browser.browser_type.launch(
        executable_path=program, args=_ARGUMENTS, ignore_default_args=removed, timeout=180_000
    ) as with_page_cache:
        yield with_page_cache


def serious_violations(page: Page) -> list[str]:
    """Return the serious and critical findings of axe-core on a page, one sentence each."""
    assert AXE.exists(), "axe-core is missing: `./run test` installs it"
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN_AXE)
    return found


@dataclass
class Console:
    """Console of a running service in a browser window of its own.

    `complaints` are errors of scripts and violations of the Content-Security-Policy.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(120_000)
        self.page.on("console", self._on_message)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def sign_in(self, name: str, password: str) -> None:
        """Sign in with the form."""
        self.open("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(re.compile(r"^(?!.*/login)"))

    def open(self, path: str, status: int = 200) -> None:
        """Open a page, which must have the status."""
        response = self.page.goto(self.url + path)
        assert response is not None
        assert response.status == status, (path, response.status, self.page.inner_text("main")[:300])

    def is_page(self, path: str) -> bool:
        """Return True if the path leads to HTML, and not to a file to download. Its status must be 200."""
        response = self.page.context.request.get(self.url + path, headers={"Accept": "text/html"})
        assert response.status == 200, (path, response.status)
        return response.headers["content-type"].startswith("text/html")

    def tab_to(self, name: str) -> None:
        """Press the tabulator until the element with this text or label has the focus, and shows that it has it."""
        for _ in range(MAX_TAB_STOPS):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_HAS_VISIBLE_FOCUS, name):
                return
        raise AssertionError(f"the tabulator does not lead to {name!r}, or its focus is invisible")

    def is_wider_than_window(self) -> bool:
        """Return True if the page scrolls sideways."""
        wider: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"
        )
        return wider

    def _on_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)
