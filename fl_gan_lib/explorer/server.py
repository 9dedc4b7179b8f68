"""Notebook 04 as a page for a class, with Voila: no code to see or to send, nothing from the network, light kernels."""

from __future__ import annotations

import ctypes
import gc
import html
import ipaddress
import json
import os
import secrets
import socket
import ssl
import sys
import threading
import webbrowser
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import traitlets
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from nbformat import NotebookNode, v4
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, OutputTransform, RequestHandler
from traitlets.config import Config
from voila.app import Voila

from fl_gan_lib.arguments import whole_number

_HEADERS = {
    # Voila's page asks a server on the internet for icons that it does not use. Where there is a network but no
    # internet, the browser would wait for them before it shows anything.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: "
    "wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    # The address of the page may hold the token. ("no-referrer" would take the origin from forms, too.)
    "Referrer-Policy": "same-origin",
}

# For glibc, in the kernels: give memory back at once. Thirty kernels on a laptop keep 0.6 GB less.
GLIBC_SETTINGS = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

# What the explorer needs of JupyterLab's extensions; the others would only take time to load.
_EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager7",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]

# Easy to type from a blackboard: no l and 1, no o and 0.
TOKEN_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"

# From before its other scripts have come, which can take a minute where a class shares the Wi-Fi, the page says that it
# is there. And where all is slow, Voila's page now and then finds no widget: the second time, it does.
KEEP_ALIVE = """<script>
setInterval(async () => {
  const kernel = JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId;
  const { status } = await fetch(`/api/kernels/${kernel}`);
  const outputs = [...document.querySelectorAll(".jp-OutputArea-output")].map((output) => output.textContent);
  if (status === 404 || outputs.some((text) => text.startsWith("Error displaying widget"))) {
    if (!document.querySelector(".fl-gan")) location.reload();
  }
}, 10000);
</script>"""

# Whatever the page sends, message or form, is below a kilobyte.
MAX_BYTES = 16_384


def serve_demo(
    notebook: str | Path,
    *,
    ip: str = "127.0.0.1",
    port: int = 8866,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    viewers: int = 40,
    open_browser: bool = True,
) -> None:
    """Serve a notebook as a page, until Ctrl-C. Each viewer has a kernel, which ends a minute after they are gone.

    Listening for other computers it asks for a token, and prints the address that holds it: a new one each time, or
    the environment's JUPYTER_TOKEN.

    Args:
        notebook: with outputs: cells tagged "static" are not executed again, their pictures are shown as they are.
        ip: where to listen. "0.0.0.0" lets whoever has the token look, and start live attacks.
        port: where to listen; if it is taken, one of the next is used.
        certificate: file (PEM) of this computer's certificate, for https.
        key: file (PEM) of its private key, if it is not in the file of the certificate.
        viewers: how many may look at a time; each takes about 0.1 GB of memory.
        open_browser: open the page in a browser.

    Raises:
        FileNotFoundError: there is no such notebook, certificate or key.
        ValueError: the ip is no address of this computer, the port or the number of viewers is out of range, or there
            is a key without a certificate.
        ssl.SSLError: they are no certificate and its key.
    """
    notebook, certificate, key = (
        None if path is None else Path(path).expanduser() for path in (notebook, certificate, key)
    )
    for what, path in {"notebook": notebook, "certificate": certificate, "key": key}.items():
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no {what} at {path}: name the one to use, or start in the project's folder")
    port = whole_number("port", port, 1, 65535)
    viewers = whole_number("viewers", viewers, 1)
    check_ip(ip)
    if key and not certificate:
        raise ValueError("a key alone does not make a page https: name the certificate that belongs to it as well")
    for name, value in GLIBC_SETTINGS.items():
        os.environ.setdefault(name, value)

    config = Config()
    # Settings of other Voilas on this computer are not for this one.
    config.Voila.config_file_paths = []
    config.Voila.ip = ip
    config.Voila.port = port
    config.Voila.open_browser = open_browser
    if certificate:
        Demo.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        Demo.tls.load_cert_chain(certificate, key)

    # Who comes in. On this computer alone, a page of another site that has its name point here must not.
    this_computer_only = is_this_computer(ip)
    config.Voila.token = os.environ.get("JUPYTER_TOKEN") or ("" if this_computer_only else _new_token())
    config.Voila.tornado_settings = {
        "headers": _HEADERS,
        "allow_remote_access": not this_computer_only,
        "websocket_max_message_size": MAX_BYTES,
        "xsrf_cookie_kwargs": {"samesite": "Strict", "secure": certificate is not None},
        # ms. A computer that has left the network is missed after half a minute.
        "ws_ping_interval": 10_000,
    }
    config.PasswordIdentityProvider.cookie_options = {"samesite": "Strict"}
    # Or whoever has the token could write the server's configuration into this folder.
    config.PasswordIdentityProvider.allow_password_change = False

    # What they see: this page as it is, and no other file.
    config.VoilaConfiguration.prelaunch_hook = _prepare
    config.VoilaConfiguration.extension_allowlist = _EXTENSIONS
    config.VoilaConfiguration.file_allowlist = []
    config.VoilaConfiguration.allow_template_override = "NO"
    config.VoilaConfiguration.allow_theme_override = "NO"
    config.Voila.kernel_websocket_connection_class = _Connection

    # When a kernel ends: when its page says that it is left, or else within a minute after its last sign of life, but
    # not while Wi-Fi is lost for some seconds. The progress of a live attack is no sign that somebody looks.
    config.VoilaConfiguration.multi_kernel_manager_class = Kernels
    config.Kernels.max_viewers = viewers
    config.MappingKernelManager.cull_interval = 5
    config.MappingKernelManager.cull_idle_timeout = 45
    config.MappingKernelManager.cull_connected = False
    config.MappingKernelManager.untracked_message_types.extend(["comm_open", "comm_msg", "comm_close"])
    Demo.launch_instance([str(notebook)], config=config)


class Demo(Voila):
    """Voila, with TLS and an address that can be passed on."""

    tls: ssl.SSLContext | None = None

    def init_settings(self) -> dict[str, Any]:
        return super().init_settings() | {"transforms": [_Headers]}

    def listen(self) -> None:
        self.app.listen = partial(self.app.listen, ssl_options=self.tls, max_body_size=MAX_BYTES)
        super().listen()

    @property
    def display_url(self) -> str:
        host = _own_address() if self.ip in ("", "0.0.0.0", "::") else self.ip
        # A token from the environment may have any sign, and the names of computers and networks some.
        host = f"[{quote(host, safe=':')}]" if ":" in host else quote(host)
        token = f"?token={quote(self.token, safe='')}" if self.token else ""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/{token}"

    def launch_browser(self) -> None:
        threading.Thread(target=webbrowser.open, args=[self.display_url], daemon=True).start()


class _Headers(OutputTransform):
    """Voila's own, and those of tornado and Jupyter, are not the same for pages, files and errors."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers.pop("Server", None)  # tells which version of tornado it is
        return status_code, headers, chunk


class Kernels(AsyncMappingKernelManager):
    """The viewers' kernels: no more than the computer can bear."""

    max_viewers = traitlets.Int(config=True)

    async def start_kernel(self, **options: Any) -> str:
        if len({*self.list_kernel_ids(), *self._pending_kernels}) >= self.max_viewers:
            raise HTTPError(
                503, reason=f"{self.max_viewers} viewers are here already: try again when somebody has left"
            )
        return await super().start_kernel(**options)

    async def shutdown_kernel(self, kernel_id: str, **options: Any) -> None:
        await super().shutdown_kernel(kernel_id, **options)
        IOLoop.current().call_later(5, _give_memory_back)  # when the viewer's connections have ended as well

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        if kernel_id in self._kernel_connections:  # Jupyter's fails for those that are about to start
            await super().cull_kernel_if_idle(kernel_id)

    def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        """What the page asks for, again and again: somebody is there."""
        self.get_kernel(kernel_id).last_activity = datetime.now(UTC)
        return super().kernel_model(kernel_id)

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        # The time that it may wait for its page begins now, not with the last message: a reader sends none.
        if kernel_id in self:
            self.get_kernel(kernel_id).last_activity = datetime.now(UTC)


class _Connection(ZMQChannelsWebsocketConnection):
    """From a page to its kernel: what the explorer sends passes, and nothing else.

    Voila alone would also let a viewer set any state of a widget, make widgets of any class, and end the kernel.
    """

    def handle_incoming_message(self, incoming_msg: bytes | str) -> None:
        if self.subprotocol == "v1.kernel.websocket.jupyter.org" and _is_from_the_explorer(incoming_msg):
            super().handle_incoming_message(incoming_msg)
        else:
            self.log.warning("Ignored a message that the explorer does not send.")

    def handle_outgoing_message(self, stream: str, outgoing_msg: list[Any]) -> None:
        # What the kernel prints, a traceback for instance, names files of this computer.
        _, (_, header, *_) = self.session.feed_identities(outgoing_msg)
        if self.session.unpack(header)["msg_type"] not in ("stream", "error"):
            super().handle_outgoing_message(stream, outgoing_msg)


def _is_from_the_explorer(message: bytes | str) -> bool:
    """Whether a message (Jupyter's v1 protocol on websockets) is one of those that the explorer needs."""
    # Jupyter would count to the number that the message gives, however large it is.
    if not isinstance(message, bytes) or int.from_bytes(message[:8], "little") > 10:
        return False
    try:
        channel, (header, _, _, content) = deserialize_msg_from_ws_v1(message)
        kind, content = json.loads(header)["msg_type"], json.loads(content)
    except (IndexError, KeyError, RecursionError, TypeError, ValueError):
        return False
    match channel, kind, content:
        case "shell", "kernel_info_request" | "comm_info_request" | "comm_close", _:
            return True
        case "shell", "comm_open", {"target_name": "jupyter.widget.control"}:
            return True
        # One by one, where the kernel is too slow to send all states within four seconds.
        case "shell", "comm_msg", {"data": {"method": "request_states" | "request_state" | "custom"}}:
            return True
    return False


def _prepare(handler: RequestHandler, *, notebook: NotebookNode, cwd: str) -> NotebookNode:
    """The notebook as a page that says when it is there and when it is left."""
    # Reading it sets the cookie without which Voila's page may not end its kernel.
    _ = handler.xsrf_token
    return NotebookNode(notebook | {"cells": [v4.new_markdown_cell(KEEP_ALIVE), *map(static_picture, notebook.cells)]})


def static_picture(cell: NotebookNode) -> NotebookNode:
    """Turn a cell tagged "static", or one of an exercise, into its pictures: no viewer's kernel imports matplotlib."""
    if "static" not in cell.metadata.get("tags", []) and not cell.id.startswith("exercise-"):
        return cell
    images = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    alt = "the picture that the text around it describes"
    tags = [f'<img alt="{alt}" src="data:image/png;base64,{html.escape("".join(image.split()))}">' for image in images]
    return v4.new_markdown_cell("\n".join(tags))


def _give_memory_back() -> None:
    """What a page needed while it was made would stay: two megabytes more for each viewer who comes and goes."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def is_this_computer(ip: str) -> bool:
    try:
        return ip == "localhost" or ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def check_ip(ip: str) -> None:
    """Raises a ValueError unless this computer can listen there."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(ip or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(kind) as probe:
            probe.bind(address)
    except (OSError, TypeError, UnicodeError) as error:
        raise ValueError(
            f"ip is {ip!r:.80}: it must be an address or a name of this computer, without a port, or '0.0.0.0' for all "
            f"its networks ({error})"
        ) from error


def _own_address() -> str:
    """This computer's address in its network, as far as it can be known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return socket.gethostname()
        return probe.getsockname()[0]


def _new_token() -> str:
    return "".join(secrets.choice(TOKEN_LETTERS) for _ in range(10))
