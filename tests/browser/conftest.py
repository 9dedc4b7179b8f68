"""A browser, and the places where the explorer lives: an exported notebook, a page of its own, Jupyter, the demo."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fl_gan_lib.explorer.page import load_runs, write_page

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
EXPLORER = "04_visual_comparison.ipynb"
DEMO = ["fl_gan_lib", "demo", "--no-browser", "--port={port}"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    found = find_browser()
    if found is None:
        reason = f"no browser is installed: none of {', '.join(BROWSERS)} is on the path"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return {**browser_type_launch_args, "executable_path": found, "args": list(FLAGS)}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args):
    return {**browser_context_args, "viewport": {"width": 1280, "height": 900}}


@pytest.fixture
def page(page):
    """No script of ours on it may have failed in the end. Jupyter's own, in /static/, sometimes do."""
    errors = []
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    page.set_default_timeout(60_000)
    yield page
    assert not [error for error in errors if "blob:" in error or "/static/" not in error]


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> str:
    """The address of notebook 04, exported as it is committed."""
    folder = tmp_path_factory.mktemp("exported")
    command = ["nbconvert", "--to", "html", "--output-dir", str(folder), str(NOTEBOOKS / EXPLORER)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    return (folder / EXPLORER).with_suffix(".html").as_uri()


@pytest.fixture(scope="session")
def damaged() -> int:
    """The digit whose attack has a damaged record in `project`."""
    return 4


@pytest.fixture(scope="session")
def project(tmp_path_factory, damaged) -> Path:
    """A copy of the notebooks."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    record = folder / "notebooks" / "runs" / f"attack_{damaged}.npz"
    record.write_bytes(record.read_bytes()[:1000])
    return folder


@pytest.fixture(scope="session")
def jupyter(project) -> Iterator[str]:
    options = ["--allow-root", "--no-browser", "--IdentityProvider.token=", "--ServerApp.root_dir=notebooks"]
    with serve(["jupyterlab", *options, "--ServerApp.port={port}"], project) as address:
        yield address


@pytest.fixture(scope="session")
def demo(project) -> Iterator[str]:
    with serve(DEMO, project) as address:
        yield address


@pytest.fixture(scope="session")
def folder_page(project, tmp_path_factory) -> str:
    """The address of the page of its own, in a folder."""
    records = load_runs(project / "notebooks" / "runs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one record is damaged
        return write_page(records, tmp_path_factory.mktemp("page")).as_uri()


@contextmanager
def serve(module: list[str], folder: Path, *, port: int | None = None, **environment: str) -> Iterator[str]:
    """Start a server, a module and its arguments, on a free port, and wait until it answers."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", *(argument.format(port=port) for argument in module)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | environment)
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{address}/static/favicon.ico", timeout=1).close()
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                log.seek(0)
                pytest.fail(f"the server did not start: {log.read().decode()[-2000:]}")
            yield address
        finally:
            server.terminate()
            server.wait(20)
