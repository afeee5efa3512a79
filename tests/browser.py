"""A real Chromium for the tests of pages: the machine's own, since no package registry for Python has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]

_PATIENCE_MS = 240_000  # on a busy machine; the limit of pytest ends a test that hangs


def find_browser() -> str:
    """The path of a Chromium; the test is skipped where there is none."""
    pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")
    return found


@contextmanager
def started() -> Iterator[Any]:
    """A browser that runs."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else _FLAGS
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=flags)
        try:
            yield running
        finally:
            running.close()


def cpu_s() -> float:
    """The processor time of all processes of the browser so far."""
    import psutil

    used = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    return used


class Visit:
    """A page that is open in a browser of its own profile. What it complains of, and what it asks the network for, is kept.

    Args:
        browser: see `started`.
        file: the page.
        width, height, scheme: of the window.
    """

    def __init__(self, browser: Any, file: Path, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        self.context.set_default_timeout(_PATIENCE_MS)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.file = file
        self.page.goto(file.as_uri())

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "assert"):  # a warning may be on what the test itself does
            self.complaints.append(message.text)

    def until(self, expression: str) -> None:
        """Wait until an expression is true. Playwright's own waiting makes code from text, which the page's policy forbids."""
        while not self.page.evaluate(expression):
            self.page.wait_for_timeout(50)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.page.inner_text(selector))

    def chosen(self) -> list[str]:
        """The two ids of the chosen pair, as the stage shows them."""
        return list(self.page.locator("#compared bdi").all_inner_texts())

    def close(self) -> None:
        """Close it; fails if the page complained of anything, or asked for anything but itself."""
        self.context.close()
        assert self.complaints == []
        assert {url for url in self.requests if not url.startswith("blob:")} == {self.file.as_uri()}
