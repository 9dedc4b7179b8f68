"""A pad in the browser, on this computer alone, whose drawings go into a file: a secret for a federation on Flower."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tornado.httpserver import HTTPServer
from tornado.web import Application

from fl_gan_lib.drawn import SIDE, check_drawings
from fl_gan_lib.explorer.classroom import Refused
from fl_gan_lib.explorer.page import HERE, STYLE, script
from fl_gan_lib.explorer.server import MAX_BYTES, PageFile, Post, listen
from fl_gan_lib.recording import files


def draw_to_file(path: str | Path, *, port: int = 8866, open_browser: bool = True) -> Path:
    """Open a pad, and wait until somebody has drawn a symbol 8 to 20 times and saved it, or Ctrl-C.

    Args:
        path: of the file, `.npz`: its `drawings` are uint8 (n, 28, 28).
        port: where to listen, on this computer alone; if it is taken, one of the next is used.
        open_browser: open the page in a browser.

    Returns:
        The path.

    Raises:
        ValueError: the path does not end in `.npz`, or no port is free.
        FileExistsError: there is something at that path.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"out is {path}: the name of the file must end in .npz")
    if path.exists():
        raise FileExistsError(f"there is a file {path} already: give another name, or take it away")
    sockets = listen("127.0.0.1", port)
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"

    async def serve() -> None:
        saved = asyncio.Event()
        make_pad_server(path, saved.set).add_sockets(sockets)
        print(f"The pad is at {address}\nCtrl-C ends it.", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        await saved.wait()
        await asyncio.sleep(0.5)  # the answer is still on its way

    asyncio.run(serve())
    return path


def make_pad_server(path: Path, done: Any) -> HTTPServer:
    """The page with the pad, and the route that it saves to; `done` is called when the file is there."""
    pages = {
        "index.html": (HERE / "draw.html").read_bytes(),
        "page.js": f"(() => {{\n{script('parts', 'pad', 'draw')}}})();\n".encode(),
        "page.css": STYLE.read_bytes(),
    }

    class Save(Post):
        num_tokens = 0

        def take(self, message: Any) -> str:
            match message:
                case {"drawings": str(packed)}:
                    pictures = np.frombuffer(base64.b64decode(packed, validate=True), np.uint8).reshape(-1, SIDE, SIDE)
                    try:
                        drawings = check_drawings(pictures)
                    except ValueError as error:
                        raise Refused(str(error)) from error
                    try:
                        files.write_atomically(path, files.pack({}, {"drawings": drawings}))
                    except OSError as error:
                        raise Refused(f"The drawings could not be written: {error}") from error
                    done()
                    return f"Saved to {path}. You can close this page."
            raise ValueError("no drawings")

    settings = {
        "classroom": SimpleNamespace(tokens=None),  # whoever is at this computer may draw
        "file": lambda name: (pages[name], gzip.compress(pages[name])),
        "budgets": {},
        "log_function": lambda _: None,
    }
    return HTTPServer(Application([("/save", Save), ("/(.*)", PageFile)], **settings), max_body_size=MAX_BYTES)
