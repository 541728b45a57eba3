"""The dashboard in headless Chromium, used as a person would."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from local_cluster import LocalCluster
from PIL import Image
from playwright.sync_api import Page, expect

from argus.client import Client

from .conftest import OpenPage, shot

pytestmark = pytest.mark.browser

DONE = "#pictures .view:not(.unfinished) img"


def ask(page: Page, prompt: str, **fields: str) -> None:
    """Fill in the form and send it with the Enter key."""
    for name, value in fields.items():
        field = page.locator(f"[name={name}]")
        if not field.is_visible():
            page.locator("summary").click()
        if field.evaluate("one => one.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")


def test_a_prompt_becomes_the_picture_that_the_sdk_makes(
    open_page: OpenPage, cluster: LocalCluster
) -> None:
    page = open_page()
    ask(page, "a red circle", seed="7", model="scenes-base", steps="20")
    page.wait_for_selector("#pictures progress")
    page.wait_for_selector(DONE, timeout=60_000)
    source = page.get_attribute(DONE, "src") or ""
    shown = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
    with Client(cluster.address) as client:
        same = client.generate("a red circle", seed=7, variant="scenes-base", steps=20)
    assert np.array_equal(np.asarray(shown), np.asarray(same.image))
    expect(page.locator("#pictures figcaption")).to_contain_text("seed 7")
    expect(page.locator("#pictures progress")).to_have_count(0)
    assert page.get_attribute(DONE, "alt") == "a red circle"
    page.click("text=Keep the seed")
    assert page.input_value("#seed") == "7"
    shot(page, "light")


def test_progress_and_unfinished_pictures_are_seen(open_page: OpenPage) -> None:
    page = open_page()
    # What was shown is noted in the page: it comes and goes in tenths of a second.
    page.evaluate(
        """() => {
            window.seen = {previews: 0, steps: new Set()};
            new MutationObserver(() => {
                if (document.querySelector("#pictures .unfinished img")) seen.previews += 1;
                const bar = document.querySelector("#pictures progress");
                if (bar && bar.value) seen.steps.add(bar.value);
            }).observe(document.querySelector("#pictures"),
                       {subtree: true, childList: true, attributes: true});
        }"""
    )
    ask(page, "a blue square", steps="30", n="2")
    page.wait_for_selector("#pictures figure:nth-child(2)")
    shot(page, "progress")
    expect(page.locator(DONE)).to_have_count(2, timeout=60_000)
    assert page.evaluate("seen.previews") >= 2
    # Of quick steps some are left out: ten a second are told of.
    assert page.evaluate("seen.steps.size") >= 4


def test_a_refusal_is_told_with_its_field(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "a red circle", size="63x64")
    expect(page.locator("#refused")).to_contain_text("size: ")
    assert page.locator("#refused").get_attribute("role") == "alert"
    ask(page, "a red circle", size="64x64", deadline="0.1", min_quality="1", level="base")
    expect(page.locator("#refused")).to_be_visible()
    shot(page, "refused")


def test_escape_stops_the_request(open_page: OpenPage, cluster: LocalCluster) -> None:
    page = open_page()
    with Client(cluster.address) as client:
        before = client.status().counters.cancelled
        ask(page, "a green ring", steps="1000")
        page.wait_for_selector("#pictures progress")
        expect(page.locator("#stop")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#pictures figcaption")).to_contain_text("stopped")
        expect(page.locator("#stop")).to_be_hidden()
        for _ in range(100):
            page.wait_for_timeout(100)
            if client.status().counters.cancelled > before:
                break
        assert client.status().counters.cancelled == before + 1


def test_it_can_be_used_without_a_mouse(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the prompt"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("two yellow triangles")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and a ring")
    assert page.input_value("#prompt") == "two yellow triangles\nand a ring"
    names = []
    for _ in range(9):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.name || document.activeElement.tagName"))
    assert names[:5] == ["model", "n", "deadline", "seed", "SUMMARY"]
    # Each field has a name for those who cannot see it.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, progress")]
            .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length"""
    )
    assert nameless == 0


def test_the_cluster_is_shown_as_it_is(open_page: OpenPage, cluster: LocalCluster) -> None:
    with Client(cluster.address) as client:
        for seed in range(6):
            client.generate("a red circle", seed=seed, steps=10, deadline_s=30)
        page = open_page()
        status = client.status()
    expect(page.locator("#health")).to_have_text("2 nodes serving")
    expect(page.locator("#nodes tbody tr")).to_have_count(2)
    expect(page.locator("#levels tbody tr")).to_have_count(len(status.levels))
    answered = page.locator("#counts div", has_text="Answered").locator("dd")
    expect(answered).to_have_text(f"{status.counters.answered:,}")
    expect(page.locator("#cache-section")).to_be_visible()
    for chart in ("load", "quality"):
        label = page.get_attribute(f"#{chart}", "aria-label") or ""
        assert label.startswith("over the last")
        assert page.locator(f"#{chart} path[d^=M]").count() >= 1
    assert page.locator("#plan-section").is_hidden()


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("dark", 1400, "dark"), ("phone", 390, "light")]
)
def test_it_fits_dark_rooms_and_small_screens(
    open_page: OpenPage, name: str, width: int, scheme: str
) -> None:
    page = open_page(width=width, height=900, scheme=scheme)
    ask(page, "a red circle left of a blue square", n="2", steps="10")
    expect(page.locator(DONE)).to_have_count(2, timeout=60_000)
    shot(page, name)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    back, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(back) < brightness(ink)) == (scheme == "dark")
    assert contrast(back, ink) > 7  # WCAG AAA


def test_the_theme_can_be_chosen_and_stays(open_page: OpenPage) -> None:
    page = open_page(scheme="light")
    page.click("#theme")
    page.click("#theme")
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert brightness(back) < 0.1


def brightness(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)` as WCAG defines it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)
