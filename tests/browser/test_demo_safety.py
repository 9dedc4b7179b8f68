"""How long a viewer's kernel lives, and what a class needs to come in. What a viewer cannot do is in
`tests/explorer/test_server.py`."""

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest
from conftest import DEMO, serve
from playwright.sync_api import BrowserContext, Page, Route, WebSocketRoute, expect

READY = ".fl-gan[data-ready=true]"


def kernel_of(page: Page) -> psutil.Process:
    """The process behind a page."""
    name = json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]
    (found,) = (
        process for process in psutil.process_iter(["cmdline"]) if f"kernel-{name}.json" in str(process.info["cmdline"])
    )
    return found


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], *, seconds: float) -> float:
    """The seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it has not happened"
        time.sleep(0.2)
    return time.monotonic() - start


def choose(page: Page, name: str) -> None:
    """Choose a run that the kernel has to send."""
    page.get_by_label("beside it").select_option(name)
    expect(page.locator(".fl-gan section").nth(1)).to_contain_text(
        re.compile("fakes are classified as"), timeout=30_000
    )


@pytest.fixture
def open_page(context: BrowserContext, demo: str) -> Callable[..., Page]:
    def open(*, wait: bool = True, prepare: Callable[[Page], None] = lambda page: None) -> Page:
        page = context.new_page()
        prepare(page)
        page.goto(demo, wait_until="commit")
        page.locator(READY if wait else "text=What this does not show").first.wait_for(timeout=90_000, state="attached")
        return page

    return open


def test_a_tab_that_is_closed_frees_its_kernel_within_a_minute(open_page):
    left, crashed, attacking = open_page(), open_page(), open_page()
    early = open_page(wait=False, prepare=lambda page: page.route("**/voila.js", lambda route: None))
    kernels = [kernel_of(page) for page in (left, crashed, attacking, early)]
    attacking.get_by_role("button", name="Start a live attack").click()
    expect(attacking.locator(".fl-gan-live output")).to_contain_text("Training: round", timeout=180_000)
    (attack,) = kernels[2].children()

    assert all(map(runs, [*kernels, attack]))
    left.close(run_before_unload=True)
    assert wait_until(lambda: not runs(kernels[0]), seconds=10) < 10
    for page in (crashed, attacking, early):  # without a word, as when a browser crashes
        page.close()
    wait_until(lambda: not any(map(runs, [*kernels, attack])), seconds=60)


def test_a_tab_that_is_open_keeps_its_kernel(open_page):
    held: list[Route] = []
    lost = False

    def lose(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.close() if lost else socket.connect_to_server()

    sockets: list[WebSocketRoute] = []
    idle = open_page()
    # On a slow network, where the page's scripts take more than a minute.
    slow = open_page(wait=False, prepare=lambda page: page.route("**/voila.js", lambda route: held.append(route)))
    away = open_page(prepare=lambda page: page.route_web_socket(re.compile("/channels"), lose))
    kernels = [kernel_of(page) for page in (idle, slow, away)]
    idle.wait_for_timeout(70_000)
    assert all(map(runs, kernels))

    held[0].continue_()
    slow.locator(READY).wait_for(timeout=60_000)
    # The Wi-Fi is gone for twenty seconds.
    lost = True
    away.route("**/api/kernels/**", lambda route: route.abort())
    sockets[0].close()
    away.wait_for_timeout(20_000)
    lost = False
    away.unroute("**/api/kernels/**")
    for page in (idle, slow, away):
        choose(page, "oracle")
    assert all(map(runs, kernels))


@pytest.fixture(scope="module")
def shared(project):
    """The address of a demo for a class, with TLS, and its token."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not installed")
    request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 1 -subj /CN=demo"
    subprocess.run(["openssl", *request.split()], cwd=project, check=True, capture_output=True)
    command = [*DEMO, "--ip=0.0.0.0", "--certificate=certificate.pem", "--key=key.pem"]
    with serve(command, project, tls=True, JUPYTER_TOKEN="chosen") as address:
        yield address


def test_a_class_comes_in_with_the_token(browser, shared):
    context = browser.new_context(ignore_https_errors=True)
    page, said = context.new_page(), []
    page.on("console", lambda line: said.append(line.text))
    page.goto(f"{shared}/?token=chosen")
    page.locator(READY).wait_for(timeout=60_000)
    choose(page, "oracle")
    # But for the icons on the internet that Voila does not use.
    assert not [line for line in said if "Content Security Policy" in line and "jsdelivr" not in line]

    other = browser.new_context(ignore_https_errors=True).new_page()
    other.goto(shared)
    for token, works in (("guessed", False), ("chosen", True)):
        expect(other.locator(".fl-gan")).to_have_count(0)
        other.locator("input[type=password]").first.fill(token)
        other.get_by_role("button", name="Log in").first.click()
        with contextlib.suppress(AssertionError) if not works else contextlib.nullcontext():
            expect(other.locator(READY)).to_be_visible(timeout=60_000 if works else 3_000)
    choose(other, "oracle")
    context.close()
    other.context.close()
