"""A cluster with the bundled models, and pages of its dashboard in headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_cluster import LocalCluster
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page under test is spoken to; as root Chromium runs without its sandbox only.
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", "build/screenshots"))

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2, ["--cache", "always"], http=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    assert program, "no Chromium on PATH: `make test-browser` installs one"
    arguments = [*QUIET, *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, cluster: LocalCluster) -> Iterator[OpenPage]:
    """Opens the dashboard; at the end its console must be empty of errors."""
    errors: list[str] = []
    contexts = []

    def open_one(width: int = 1400, height: int = 1000, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport=ViewportSize(width=width, height=height),
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: _stay_home(r.url, cluster, errors))
        page.goto(f"http://{cluster.http}/")
        page.wait_for_selector("#nodes tbody tr", timeout=30_000)
        return page

    yield open_one
    for context in contexts:
        context.close()
    refusals = "the server responded with a status of "  # of requests that a test lets fail
    assert [text for text in errors if refusals not in text] == []


def _stay_home(url: str, cluster: LocalCluster, errors: list[str]) -> None:
    if not url.startswith((f"http://{cluster.http}/", "data:", "blob:")):
        errors.append(f"loaded from elsewhere: {url}")


def shot(page: Page, name: str) -> None:
    """Keep a screenshot of the whole page, for people."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
