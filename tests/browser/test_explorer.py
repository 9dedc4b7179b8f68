"""What the explorer shows in a real browser: which images, which words."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from fl_gan_lib.explorer.page import NUM_GREYS, describe, standalone_page, write_page
from fl_gan_lib.figures import tile
from fl_gan_lib.records import AttackRecord, load_records, record_path
from fl_gan_lib.studies.defences import RECORDED
from fl_gan_lib.studies.jobs import record_kind

RUNS = Path(__file__).parents[2] / "notebooks" / "runs"
LAST = len(AttackRecord.load(record_path(RUNS, 3)).rounds) - 1
# Of a slider that moves: one that waits for a single place may miss it.
AT_LEAST_3 = re.compile(r"^([3-9]|1\d|20)$")
expect.set_options(timeout=15_000)
PIXELS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const pixels = Array.from({ length: data.length / 4 }, (_, place) => place * 4);
  return [canvas.width, pixels.map((place) => (data[place + 3] ? data[place] : 255))]; // gaps are the page's own colour
}"""


@pytest.fixture(scope="module")
def records() -> dict[int, AttackRecord]:
    return load_records(RUNS)


class Explorer:
    """The explorer on a page, as a user finds its parts: by role and label."""

    def __init__(self, page: Page) -> None:
        self.root = page.locator(".fl-gan[data-ready=true]")
        self.root.wait_for(timeout=60_000)
        self.slider = self.root.get_by_role("slider", name="round")
        self.first = self.root.locator("section").nth(0)
        self.second = self.root.locator("section").nth(1)

    def pick(self, digit: int) -> None:
        self.root.get_by_role("radio", name=f"class {digit}").check()

    def frame(self) -> int:
        return int(self.slider.input_value())


def pixels(pane: Locator, row: str) -> np.ndarray:
    width, values = pane.get_by_role("img", name=re.compile(f"^{row}")).evaluate(PIXELS)
    return np.array(values, np.uint8).reshape(-1, width)


def greys(images: np.ndarray) -> np.ndarray:
    """As the explorer shows them: ten a line, in few greys."""
    step = 255 / (NUM_GREYS - 1)
    return np.round(np.round(tile(images, 10) / step) * step).astype(np.uint8)


def assert_shows(pane: Locator, record: AttackRecord, frame: int, *, num_fakes: int = 20) -> None:
    expect(pane).to_contain_text(describe(record, frame))
    assert np.array_equal(pixels(pane, "private"), greys(record.private_samples))
    assert np.array_equal(pixels(pane, "fakes"), greys(record.samples[frame, :num_fakes]))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two CSS colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
        return float(
            np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def keep_picture(page: Page, name: str) -> None:
    """For people to look at; nothing is asserted on it."""
    page.screenshot(path=picture_path(name))


def picture_path(name: str) -> Path:
    folder = Path("out/browser")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.png"


@pytest.fixture
def offline(page, context, exported) -> Explorer:
    context.set_offline(True)
    page.goto(exported)
    return Explorer(page)


def test_an_exported_page_needs_no_network(offline, page, records):
    assert_shows(offline.first, records[3], LAST, num_fakes=10)
    offline.slider.fill("7")
    assert_shows(offline.first, records[3], 7, num_fakes=10)
    offline.pick(8)
    assert_shows(offline.first, records[8], 7, num_fakes=10)
    emergence = page.locator("img").first
    assert emergence.evaluate("image => image.src.startsWith('data:image/png') && image.naturalHeight > 400")
    expect(offline.root.get_by_role("button", name="live attack")).to_have_count(0)
    offline.root.scroll_into_view_if_needed()
    keep_picture(page, "exported")


def people(record: AttackRecord, number: int, *targets: int) -> dict[int, AttackRecord]:
    """Records of some of so many people; the pictures are those of a digit, and larger."""
    large = {
        name: np.repeat(np.repeat(getattr(record, name), 2, -1), 2, -2)
        for name in ("samples", "final_samples", "private_samples")
    }
    names = [f"Äda {person} <b>" for person in range(number)]
    config = record.config | {"classes": names}
    return {target: replace(record, **large, config=config | {"target": target}) for target in targets}


def test_of_many_classes_only_those_with_a_record_are_offered(page, records, tmp_path):
    recorded = people(records[3], 40, 5, 7)
    (tmp_path / "page.html").write_text(f"<meta charset=utf-8>{standalone_page(recorded)}", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    explorer = Explorer(page)
    expect(explorer.root.get_by_role("radio")).to_have_count(2)
    explorer.root.get_by_role("radio", name="class Äda 7 <b>").check()
    expect(explorer.first).to_contain_text(describe(recorded[7], LAST))


@pytest.mark.parametrize("number", [12, 13])
def test_classes_are_buttons_up_to_twelve_and_a_list_beyond(page, records, tmp_path, number):
    recorded = people(records[3], number, *([number - 1] if number == 12 else range(number)))
    shown = recorded[min(recorded)]
    (tmp_path / "page.html").write_text(f"<meta charset=utf-8>{standalone_page(recorded)}", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    explorer = Explorer(page)
    buttons, choice = (
        explorer.root.get_by_role("radio"),
        explorer.root.get_by_role("combobox", name="the attacker lacks"),
    )
    expect(buttons).to_have_count(number if number == 12 else 0)
    expect(choice).to_have_count(0 if number == 12 else 1)
    expect(explorer.first).to_contain_text(describe(shown, LAST))
    side = shown.samples.shape[-1]
    assert pixels(explorer.first, "fakes").shape == (side + 4, 10 * (side + 2) + 2)
    keep_picture(page, f"{number}_classes")
    if number == 12:
        explorer.root.get_by_role("radio", name="class Äda 2 <b>").check()
        expect(explorer.first).to_contain_text("no readable record of the class Äda 2 <b> in this run. It has Äda")
    else:
        choice.select_option("Äda 2 <b>")
        expect(explorer.first).to_contain_text(describe(recorded[2], LAST))


def test_the_keyboard_is_enough(offline, page, records):
    offline.root.get_by_role("radio", name="class 3").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(offline.root.get_by_role("radio", name="class 5")).to_be_checked()
    page.keyboard.press("Tab")
    expect(offline.root.get_by_role("button", name="Play")).to_be_focused()
    page.keyboard.press("Tab")
    expect(offline.slider).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert_shows(offline.first, records[5], 1, num_fakes=10)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(offline.slider).to_have_value(AT_LEAST_3)
    page.keyboard.press("Space")
    stopped = offline.frame()
    page.wait_for_timeout(1000)
    assert_shows(offline.first, records[5], stopped, num_fakes=10)


def test_it_tells_a_screen_reader_what_it_shows(offline, records):
    expect(offline.slider).to_have_attribute("aria-valuetext", "round 200")
    fakes = offline.first.get_by_role("img", name="fakes of the class 3")
    expect(fakes).to_have_attribute("aria-label", f"fakes of the class 3. {describe(records[3], LAST)}")
    probe = records[3].metrics["probe"].iloc[-1]
    expect(
        offline.root.get_by_role(
            "img", name=re.compile(f"^probe {probe:.2f}, over the rounds; noise 0.0.; real images")
        )
    ).to_be_visible()
    unnamed = offline.root.locator("button, input, select, canvas, svg").evaluate_all(
        """all => all.filter(one => one.checkVisibility() && !one.textContent && !one.ariaLabel && !one.labels?.length)
             .map(one => one.outerHTML)"""
    )
    assert unnamed == []


def test_its_text_is_large_and_stands_out(offline):
    sizes = offline.root.evaluate(
        """root => [...root.querySelectorAll("*")].filter(one => one.textContent && one.checkVisibility())
             .map(one => parseFloat(getComputedStyle(one).fontSize))"""
    )
    assert len(sizes) > 40 and min(sizes) >= 12
    assert_stands_out(offline.root)


def assert_stands_out(root: Locator) -> None:
    colours = (
        "one => [one, one.closest('.fl-gan')].map(e => getComputedStyle(e)).flatMap(s => [s.color, s.backgroundColor])"
    )
    for words in ("h3", ".fl-gan-first p", ".fl-gan-charts text", "button", "fieldset span"):
        ink, own, _, paper = root.locator(words).first.evaluate(colours)
        assert contrast(ink, paper if own.endswith(", 0)") else own) >= 4.5, words


def test_fast_dragging_leaves_the_right_picture(offline, page, records):
    box = offline.slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 5, y)
    page.mouse.down()
    random = np.random.default_rng(0)
    for _ in range(60):
        page.mouse.move(box["x"] + random.uniform(0, box["width"]), y)
        frame = offline.frame()
        expect(offline.root.locator(".fl-gan-clock")).to_have_text(f"round {records[3].rounds[frame]} of 200")
    page.mouse.up()
    assert_shows(offline.first, records[3], offline.frame(), num_fakes=10)
    expect(offline.root.locator("canvas:visible")).to_have_count(2)
    expect(offline.root.locator("svg")).to_have_count(4)


def test_where_no_widget_comes_the_copy_takes_its_place(page, records):
    page.set_content(
        f'<script id="jupyter-config-data" type="application/json">{{}}</script>{standalone_page(records)}'
    )
    assert_shows(Explorer(page).first, records[3], LAST, num_fakes=10)


@pytest.fixture(params=["folder_page", "demo"])
def explorer(page, request) -> Explorer:
    page.goto(request.getfixturevalue(request.param))
    return Explorer(page)


def test_the_page_explains_itself_and_moves(explorer, page, records):
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("body")).to_contain_text("Two participants train a classifier")
    explorer.pick(7)
    assert_shows(explorer.first, records[7], LAST)
    explorer.slider.fill("0")
    assert_shows(explorer.first, records[7], 0)
    explorer.root.get_by_role("button", name="Play").click()
    expect(explorer.slider).to_have_value(AT_LEAST_3)
    expect(explorer.slider).to_have_value(str(LAST), timeout=20_000)
    expect(explorer.root.get_by_role("button", name="Play")).to_be_visible()
    assert_shows(explorer.first, records[7], LAST)


def test_from_the_digits_to_the_people_and_back(page, records, tmp_path):
    faces = people(records[3], 40, 5, 7)
    page.goto(write_page({"attack": records}, tmp_path, people={"attack": faces}).as_uri())
    page.get_by_role("link", name="Attacks on people").click()
    explorer = Explorer(page)
    explorer.root.get_by_role("radio", name="class Äda 7 <b>").check()
    expect(explorer.first).to_contain_text(describe(faces[7], LAST))
    page.get_by_role("link", name="Attacks on digits").click()
    assert_shows(Explorer(page).first, records[3], LAST)


def test_from_a_folder_it_needs_no_network(page, context, folder_page, records):
    context.set_offline(True)
    page.goto(folder_page)
    explorer = Explorer(page)
    assert_shows(explorer.first, records[3], LAST)
    explorer.root.get_by_label("run").select_option("oracle")
    explorer.pick(8)
    oracle = AttackRecord.load(record_path(RUNS, 8, "oracle"))
    assert_shows(explorer.first, oracle, len(oracle.rounds) - 1)
    expect(page.get_by_role("heading", name="Draw your secret")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut_off_and_the_text_stands_out(browser, folder_page, scheme):
    telephone = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, color_scheme=scheme)
    page = telephone.new_page()
    page.goto(folder_page)
    explorer = Explorer(page)
    explorer.root.get_by_label("class 9").tap()
    explorer.root.get_by_label("beside it").select_option("oracle")
    expect(explorer.second).to_contain_text("fakes are classified as 9")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    right = "all => Math.max(...all.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().right))"
    assert page.locator("button, label, select, input, canvas, svg, p").evaluate_all(right) <= 360
    assert_stands_out(explorer.root)
    page.screenshot(path=picture_path(f"telephone_{scheme}"), full_page=True)
    telephone.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("without injection", "passive"), ("oracle", "oracle"), ("DP-SGD epsilon 8", "DP-SGD_epsilon_8")],
)
def test_a_second_run_stands_beside_the_first(explorer, page, records, name, kind):
    expect(explorer.second).to_be_hidden()
    explorer.root.get_by_label("beside it").select_option(name)
    other = AttackRecord.load(record_path(RUNS, 3, kind))
    assert_shows(explorer.first, records[3], LAST)
    assert_shows(explorer.second, other, len(other.rounds) - 1)
    explorer.slider.fill("10")
    nearest = int(np.abs(other.rounds - records[3].rounds[10]).argmin())
    assert_shows(explorer.second, other, nearest)
    keep_picture(page, f"beside_{kind}")
    explorer.root.get_by_label("beside it").select_option("nothing")
    expect(explorer.second).to_be_hidden()


def test_a_run_that_comes_later_goes_to_the_round_that_was_chosen(explorer, page, records):
    explorer.slider.fill("10")
    explorer.root.get_by_label("run").select_option("oracle")
    oracle = AttackRecord.load(record_path(RUNS, 3, "oracle"))
    assert_shows(explorer.first, oracle, int(np.abs(oracle.rounds - records[3].rounds[10]).argmin()))
    explorer.root.get_by_label("run").select_option("attack")
    explorer.slider.press("End")
    explorer.root.get_by_label("run").select_option("without injection")
    assert_shows(explorer.first, AttackRecord.load(record_path(RUNS, 3, "passive")), LAST)


def test_each_recorded_defence_can_be_chosen_and_names_the_digits_that_it_has(explorer):
    explorer.pick(4)
    choice = explorer.root.get_by_label("beside it")
    for name in map(record_kind, RECORDED):
        choice.select_option(name.replace("_", " "))
        expect(explorer.second).to_contain_text("There is no readable record of the class 4 in this run. It has 3, 9")


def test_a_damaged_record_says_what_to_do(explorer, records, damaged):
    explorer.pick(damaged)
    expect(explorer.first).to_contain_text(f"make records DIGITS={damaged}")
    expect(explorer.slider).to_be_disabled()
    explorer.root.get_by_label("beside it").select_option("oracle")
    oracle = AttackRecord.load(record_path(RUNS, damaged, "oracle"))
    assert_shows(explorer.second, oracle, len(oracle.rounds) - 1)
    explorer.pick(5)
    assert_shows(explorer.first, records[5], LAST)


def run_all_cells(page: Page, address: str) -> None:
    """As a user does, who tries again when JupyterLab loses the request while it still connects to the new kernel."""
    for _ in range(4):
        page.goto(address)
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(TimeoutError):
            page.locator(".fl-gan[data-ready]").wait_for(state="attached", timeout=20_000)
            break
    else:
        pytest.fail("the notebook does not run")
    # Some JupyterLabs go to the last cell, and hide those that are out of sight.
    page.locator(".jp-Notebook").last.hover()
    for _ in range(40):
        if page.locator(".fl-gan[data-ready]").is_visible():
            return
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(250)
    pytest.fail("the notebook runs, but the explorer stays hidden")


@pytest.mark.parametrize("place", ["lab/tree", "notebooks"], ids=["JupyterLab", "Notebook 7"])
def test_jupyter_runs_the_notebook(page, jupyter, records, place):
    run_all_cells(page, f"{jupyter}/{place}/04_visual_comparison.ipynb")
    explorer = Explorer(page)
    assert_shows(explorer.first, records[3], LAST)
    explorer.slider.scroll_into_view_if_needed()
    explorer.slider.press("ArrowLeft")
    explorer.slider.press("ArrowLeft")
    assert_shows(explorer.first, records[3], LAST - 2)
    explorer.pick(6)
    assert_shows(explorer.first, records[6], LAST - 2)
    expect(page.locator(".fl-gan-page")).to_have_count(0)
    keep_picture(page, place.replace("/", "_"))
