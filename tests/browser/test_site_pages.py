"""The site as a visitor sees it, opened from a folder, without a server."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

PHONE = {"width": 360, "height": 740}
CUT_OFF = """() => {
  // What reaches beyond the right edge, and cannot be scrolled into view by itself.
  const scrolls = (el) =>
    el && (["auto", "scroll"].includes(getComputedStyle(el).overflowX) || scrolls(el.parentElement));
  return [...document.querySelectorAll("article *")].filter((el) => {
    const box = el.getBoundingClientRect();
    return box.width && box.right > innerWidth + 1 && !scrolls(el.parentElement);
  }).map((el) => el.outerHTML.slice(0, 100));
}"""


@pytest.fixture
def requests(page: Page) -> list[str]:
    """What the page asks for, as it is opened."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def html_files(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


def test_no_page_asks_another_host_for_anything(page: Page, site: Path, requests: list[str]):
    for path in html_files(site):
        page.goto(path.as_uri(), wait_until="networkidle")
    assert len(requests) > 100
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]


def test_the_explorer_on_the_start_page_moves(page: Page, site: Path):
    page.goto((site / "index.html").as_uri())
    expect(page.locator(".fl-gan")).to_have_attribute("data-ready", "true")
    page.get_by_role("radio", name="class 9").check(force=True)
    expect(page.locator(".fl-gan-first p").first).to_contain_text("class 9")
    slider = page.locator(".fl-gan input[type=range]")
    slider.focus()
    slider.press("Home")
    expect(page.locator(".fl-gan-clock")).to_have_text(re.compile("^round 1 of"))


def test_nothing_is_cut_off_on_a_telephone(page: Page, site: Path):
    page.set_viewport_size(PHONE)
    cut_off, articles = {}, 0
    for path in html_files(site):
        page.goto(path.as_uri())
        if page.locator(".fl-gan-page").count():
            expect(page.locator(".fl-gan").first).to_have_attribute("data-ready", "true")
        articles += page.locator("article").count()
        wide, cut = page.evaluate("document.documentElement.scrollWidth") > PHONE["width"], page.evaluate(CUT_OFF)
        if wide or cut:
            cut_off[str(path.relative_to(site))] = [wide, *cut[:3]]
    assert not cut_off and articles > 15  # all but the page of the search
    page.goto((site / "index.html").as_uri())
    expect(page.locator(".fl-gan")).to_have_attribute("data-ready", "true")
    for digit in range(10):
        box = page.get_by_role("radio", name=f"class {digit}").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], digit


def test_formulas_are_set(page: Page, site: Path):
    page.goto((site / "01_federated_learning_basics.html").as_uri())
    expect(page.locator("mjx-container").first).to_be_visible()


def test_dark_mode_is_dark_and_its_text_is_light(page: Page, site: Path):
    page.emulate_media(color_scheme="dark")
    page.goto((site / "pages" / "glossary.html").as_uri())
    colour = (
        "(el) => getComputedStyle(el).{}.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
    )
    assert page.locator("body").evaluate(colour.format("backgroundColor")) < 200
    assert page.locator("main p").first.evaluate(colour.format("color")) > 450


@pytest.mark.parametrize("width", [360, 1280])
def test_the_menu_opens_and_closes(page: Page, site: Path, width: int):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((site / "index.html").as_uri())
    menu, entry = (
        page.locator(".primary-toggle:visible").first,
        page.locator(".bd-sidebar-primary a", has_text="Speed").first,
    )

    def on_screen() -> bool:
        box = entry.bounding_box()
        return entry.is_visible() and box is not None and 0 <= box["x"] < width

    before = on_screen()
    assert before is (width > 1000)
    menu.click()
    page.wait_for_timeout(600)
    assert on_screen() is not before
