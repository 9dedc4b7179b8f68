"""The pad of `fl_gan_lib draw`, whose drawings go into a file."""

import subprocess
import sys

from playwright.sync_api import Page, expect

from fl_gan_lib.recording import files


def test_drawings_go_into_a_file_and_the_command_ends(page: Page, tmp_path):
    path = tmp_path / "a secret.npz"
    command = [sys.executable, "-m", "fl_gan_lib", "draw", "--no-browser", "--port", "8911", "--out", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as draw:
        try:
            page.goto(next(draw.stdout).split()[-1])
            save = page.get_by_role("button", name="Save")
            expect(save).to_be_disabled()
            for number in range(8):
                box = page.get_by_label("pad to draw on").bounding_box()
                x, y = box["x"] + 60, box["y"] + 60
                page.mouse.move(x, y)
                page.mouse.down()
                for dx, dy in ((100, 10 * number), (100, 120), (0, 120), (0, 0)):
                    page.mouse.move(x + dx, y + dy)
                page.mouse.up()
                page.get_by_role("button", name="Next one").click()
            page.screenshot(path="out/browser/draw.png")
            save.click()
            expect(page.locator("#words")).to_contain_text("a secret.npz. You can close this page.")
            assert draw.wait(20) == 0
        finally:
            draw.kill()
    _, arrays = files.unpack(path.read_bytes())
    assert arrays["drawings"].shape == (8, 28, 28)
    again = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert again.returncode != 0 and "there is a file" in again.stderr
