"""Headless Chromium with a page opened from disk; skips where there is none."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def opened(path, width, dark=False):
    """Yields the page, and lists of its console errors and requests."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), "")
    if not chromium:
        pytest.skip("no Chromium: apt-get install chromium")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        page = context.new_page()
        page.faults, page.asked = [], []
        page.on(
            "console",
            lambda m: page.faults.append(m.text) if m.type != "log" else None,
        )
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
