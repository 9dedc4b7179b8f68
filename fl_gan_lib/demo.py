"""Notebook 04 as a page for a class, with Voila: no code to be seen, nothing from the network, light kernels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, v4
from traitlets.config import Config
from voila.app import Voila

# Voila's page asks a server on the internet for icons that it does not use. Where there is a network but no internet,
# the browser would wait for them before it shows anything.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss:; frame-ancestors 'self'"
)

# For glibc, in the kernels: give memory back at once. Thirty kernels on a laptop keep 0.6 GB less.
_ALLOCATION = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

# What the explorer needs of JupyterLab's extensions; the others would only take time to load.
_EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager7",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]


def serve_demo(notebook: str | Path, *, ip: str = "127.0.0.1", port: int = 8866, open_browser: bool = True) -> None:
    """Serve a notebook as a page, until Ctrl-C. Each viewer has a kernel, which ends ten minutes after they are gone.

    Args:
        notebook: with outputs: cells tagged "static" are not executed again, their pictures are shown as they are.
        ip: where to listen. "0.0.0.0" lets everybody in the network look, and start live attacks.
        port: where to listen; if it is taken, one of the next is used.
        open_browser: open the page in a browser.

    Raises:
        FileNotFoundError: there is no such notebook.
    """
    notebook = Path(notebook)
    if not notebook.exists():
        raise FileNotFoundError(f"no notebook at {notebook}: name the one to show, or start in the project's folder")
    for name, value in _ALLOCATION.items():
        os.environ.setdefault(name, value)
    config = Config()
    config.Voila.ip = ip
    config.Voila.port = port
    config.Voila.open_browser = open_browser
    config.Voila.tornado_settings = {"headers": {"Content-Security-Policy": _POLICY}}
    config.VoilaConfiguration.prelaunch_hook = _keep_pictures
    config.VoilaConfiguration.extension_allowlist = _EXTENSIONS
    config.MappingKernelManager.cull_interval = 60
    config.MappingKernelManager.cull_idle_timeout = 600
    Voila.launch_instance([str(notebook)], config=config)


def _keep_pictures(_request: Any, *, notebook: NotebookNode, cwd: str) -> NotebookNode:
    """Turn the cells tagged "static" into their pictures: no viewer's kernel has to import matplotlib."""
    cells = [_picture(cell) if "static" in cell.metadata.get("tags", []) else cell for cell in notebook.cells]
    return NotebookNode(notebook | {"cells": cells})


def _picture(cell: NotebookNode) -> NotebookNode:
    images = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    alt = "the picture that the text around it describes"
    tags = [f'<img alt="{alt}" src="data:image/png;base64,{"".join(image.split())}">' for image in images]
    return v4.new_markdown_cell("\n".join(tags))
