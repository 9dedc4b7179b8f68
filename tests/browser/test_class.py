"""A class around a live attack: a teacher, students on telephones, somebody who comes late, a server that goes away."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import DEMO, serve
from PIL import Image
from playwright.sync_api import Browser, Page, expect

TRUSTING = {"ignore_https_errors": True}
TELEPHONE = TRUSTING | {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
PREVIEWS = """all => all.map(one => Array.from(one.getContext("2d").getImageData(0, 0, 28, 28).data)
  .filter((_, place) => place % 4 === 0))"""


@contextmanager
def class_of(project: Path) -> Iterator[tuple[str, str]]:
    """The addresses of the teacher and of the class, over TLS."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not installed")
    request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 1 -subj /CN=demo"
    subprocess.run(["openssl", *request.split()], cwd=project, check=True, capture_output=True)
    arguments = [*DEMO, "--certificate=certificate.pem", "--key=key.pem"]
    command = [sys.executable, "-m", *(argument.format(port=8890) for argument in arguments)]
    environment = os.environ | {"JUPYTER_TOKEN": "chosen"}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        try:
            teacher, students = (next(demo.stdout).split()[-1] for _ in range(2))
            yield teacher, students
        finally:
            demo.terminate()


def draw_house(page: Page, number: int) -> None:
    """With a finger; each one differs a little."""
    random = np.random.default_rng(number)
    pad = page.get_by_label("pad to draw on")
    pad.scroll_into_view_if_needed()
    box, finger = pad.bounding_box(), page.context.new_cdp_session(page)
    for stroke in (
        [(25, 80), (25, 45), (50, 20), (75, 45), (75, 80), (25, 80)],
        [(45, 80), (45, 60), (57, 60), (57, 80)],
    ):
        for place, (x, y) in enumerate(stroke):
            x, y = random.normal([x, y], 1.5)
            at = {"x": box["x"] + box["width"] * x / 100, "y": box["y"] + box["height"] * y / 100}
            kind = "touchMove" if place else "touchStart"
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.get_by_role("button", name="Next one").click()


def hand_in(page: Page, nickname: str) -> None:
    for number in range(8):
        expect(page.get_by_role("button", name="Hand in")).to_be_disabled()
        draw_house(page, number)
    page.get_by_label("nickname").fill(nickname)
    page.get_by_role("button", name="Hand in").click()


def test_a_drawn_secret_from_the_pad_to_reveal(browser: Browser, project: Path) -> None:
    with class_of(project) as (teacher_address, class_address):
        teacher, student = browser.new_context(**TRUSTING).new_page(), browser.new_context(**TELEPHONE).new_page()
        teacher.goto(teacher_address)
        student.goto(class_address)
        hand_in(student, "Ada")
        expect(student.get_by_text("Your drawings have arrived.")).to_be_visible()
        expect(teacher.get_by_text("Ada (8 drawings)")).to_be_visible()
        expect(student.get_by_role("button", name="Attack")).to_have_count(0)
        expect(student.get_by_role("button", name="Stop")).to_have_count(0)

        assert "#" not in teacher.url, "all who see the projector would have the token"
        teacher.get_by_role("button", name="Invite the class").click()
        expect(teacher.get_by_role("img", name="as a QR code")).to_be_visible()
        expect(teacher.get_by_text(class_address)).to_be_visible()
        expect(student.get_by_role("button", name="Invite the class")).to_be_hidden()
        teacher.get_by_role("button", name="Attack Ada").click()
        live = "Live attack on the secret of Ada"
        for viewer in (teacher, student):
            expect(viewer.get_by_role("heading", name=live)).to_be_visible(timeout=120_000)
        late = browser.new_context(**TRUSTING).new_page()
        late.goto(class_address.partition("#")[0])
        expect(late.get_by_role("heading", name=live)).to_be_visible()
        expect(late.get_by_role("heading", name="Draw your secret")).to_be_hidden()
        expect(student.locator("#live output").first).to_contain_text(re.compile(r"round \d\d of"), timeout=180_000)
        teacher.get_by_role("button", name="Stop").click()
        for viewer in (teacher, student, late):
            expect(viewer.locator("#live output").first).to_contain_text("Stopped at round")
            expect(viewer.locator("#revealed")).to_be_hidden()

        teacher.get_by_role("button", name="Reveal").click()
        for viewer in (teacher, student, late):
            expect(viewer.locator("#revealed canvas")).to_be_visible()
        expect(student.get_by_role("button", name="Save both pictures")).to_be_hidden()
        with teacher.expect_download() as saving:
            teacher.get_by_role("button", name="Save both pictures").click()
        width, height = Image.open(saving.value.path()).size
        assert width > 500 and height > 300
        student.screenshot(path="out/browser/secret.png")
        teacher.get_by_role("button", name="Drop this secret").click()
        for viewer in (teacher, student, late):
            expect(viewer.locator("#revealed")).to_be_hidden()
            expect(viewer.get_by_role("heading", name=live)).to_be_hidden()
        for viewer in (teacher, student, late):
            viewer.context.close()


@pytest.fixture
def pad(page, demo) -> Page:
    page.goto(demo)
    page.get_by_label("pad to draw on").wait_for()
    return page


def test_drawings_are_centred_and_scaled_as_digits_are(pad):
    for corner, size in ((10, 60), (150, 120), (120, 20)):
        pad.get_by_label("pad to draw on").scroll_into_view_if_needed()
        box = pad.get_by_label("pad to draw on").bounding_box()
        x, y = box["x"] + corner, box["y"] + corner
        pad.mouse.move(x, y)
        pad.mouse.down()
        for dx, dy in ((size, 0), (size, size // 2), (0, size // 2), (0, 0)):
            pad.mouse.move(x + dx, y + dy)
        pad.mouse.up()
        pad.get_by_role("button", name="Next one").click()
    pictures = np.array(pad.locator(".fl-gan-previews canvas").evaluate_all(PREVIEWS)).reshape(-1, 28, 28)
    assert len(pictures) == 3
    for picture in pictures:
        rows, columns = np.nonzero(picture > 100)
        assert 19 <= np.ptp(columns) + 1 <= 21 and 9 <= np.ptp(rows) + 1 <= 13
        weights = picture / picture.sum()
        centre = (weights.sum(1) @ np.arange(28), weights.sum(0) @ np.arange(28))
        assert np.abs(np.array(centre) - 13.5).max() < 0.3


def draw_line(pad: Page) -> None:
    box = pad.get_by_label("pad to draw on").bounding_box()
    pad.mouse.move(box["x"] + 50, box["y"] + 50)
    pad.mouse.down()
    pad.mouse.move(box["x"] + 150, box["y"] + 100)
    pad.mouse.up()
    pad.get_by_role("button", name="Next one").click()


def test_the_pad_takes_back_and_says_what_is_missing(pad):
    words = pad.locator(".fl-gan-pad p")
    expect(words).to_contain_text("Draw a symbol once, and press Next one.")
    canvas = pad.get_by_label("pad to draw on")
    canvas.click()
    pad.get_by_role("button", name="Next one").click()
    expect(words).to_contain_text("That is a dot.")
    pad.get_by_role("button", name="Undo").click()
    for _ in range(2):
        draw_line(pad)
    expect(words).to_contain_text("Draw 6 more of the same symbol")
    pad.get_by_role("button", name="Undo").click()
    expect(words).to_contain_text("Draw 7 more")
    for _ in range(7):
        draw_line(pad)
    expect(words).to_contain_text("All drawings are the same")
    expect(pad.get_by_role("button", name="Hand in")).to_be_disabled()
    pad.get_by_role("button", name="Clear all").click()
    expect(pad.locator(".fl-gan-previews canvas")).to_have_count(0)


def test_the_page_comes_back_when_the_server_does(page, project):
    with serve(DEMO, project, port=8891) as address:
        page.goto(address)
        expect(page.get_by_role("button", name="Start a live attack on 3")).to_be_enabled()
    expect(page.get_by_text("The connection is lost. Trying again ...")).to_be_visible()
    page.get_by_role("button", name="Start a live attack on 3").click()
    expect(page.get_by_text("The server does not answer.")).to_be_visible()
    with serve(DEMO, project, port=8891):
        expect(page.locator("#live-words")).to_have_text("", timeout=20_000)
        page.get_by_role("radio", name="class 7").check()
        page.get_by_role("button", name="Start a live attack on 7").click()
        expect(page.locator("#live output").first).to_contain_text("Preparing")
        page.get_by_role("button", name="Stop").click()
