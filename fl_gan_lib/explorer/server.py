"""One page for everybody: the explorer, a live attack that all viewers see, and the secrets that a class has drawn.

There is no kernel, and no code of a viewer's. A viewer can read the files of the page and follow the events. The
teacher, whose address has a token, starts and stops attacks. The class, with a token of its own, hands in drawings.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import gzip
import hmac
import ipaddress
import json
import os
import re
import socket
import ssl
import threading
import time
import webbrowser
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.explorer.classroom import Classroom, Refused, new_token
from fl_gan_lib.explorer.page import Runs, load_people, load_runs, page_files

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # or a page of another site could load the records
    "Cache-Control": "no-cache",  # asks each time whether the file has changed
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

MAX_BYTES = 64_000  # of what a page sends; twenty drawings are 21,000
FEW_SOCKETS = os.name == "nt"  # Windows waits for 512 at most, and an error in that ends the server
MAX_STREAMS = 400 if FEW_SOCKETS else 1000  # viewers at a time
IDLE_SECONDS = 30  # that a request may take to come
MAX_UNSENT = 1_000_000  # bytes: who reads more slowly is let go, comes again and gets what there is by then
MANY_REQUESTS, REQUESTS_A_SECOND = 3000, 100  # from one address, as a class behind a proxy has; not the teacher's


def serve_demo(
    folder: str | Path,
    *,
    ip: str = "127.0.0.1",
    port: int = 8866,
    base_url: str = "/",
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    open_browser: bool = True,
) -> None:
    """Serve the page until Ctrl-C, and print the addresses of the teacher and of the class.

    On this computer alone, whoever opens it is the teacher. Where other computers, or a proxy, can reach it, the
    teacher's address has a token: a new one each time, or the environment's JUPYTER_TOKEN.

    Args:
        folder: of records.
        ip: where to listen; "0.0.0.0" for all networks of this computer.
        port: where to listen; if it is taken, one of the next is used.
        base_url: the path that the page has behind a proxy; then there are tokens, too.
        certificate: file (PEM) of this computer's certificate, for https.
        key: file (PEM) of its private key, if it is not in the file of the certificate.
        open_browser: open the page in a browser.

    Raises:
        FileNotFoundError: there is no such folder, certificate or key.
        ValueError: the ip is no address of this computer, the port is out of range or none is free, or there is a key
            without a certificate.
        ssl.SSLError: they are no certificate and its key.
    """
    folder, certificate, key = (
        None if path is None else Path(path).expanduser() for path in (folder, certificate, key)
    )
    for what, path in {"folder of records": folder, "certificate": certificate, "key": key}.items():
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no {what} at {path}: name the one to use, or start in the project's folder")
    if key and not certificate:
        raise ValueError("a key alone does not make a page https: name the certificate that belongs to it as well")
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
    sockets = listen(ip, whole_number("port", port, 1, 65535))
    base_url = f"/{base_url.strip('/')}/".replace("//", "/")
    address = f"{'https' if tls else 'http'}://{_host(ip)}:{sockets[0].getsockname()[1]}{base_url}"
    given = os.environ.get("JUPYTER_TOKEN")
    alone = is_this_computer(ip) and base_url == "/" and not given
    tokens = None if alone else (given or new_token(10), new_token())
    teacher = address if alone else f"{address}#teacher={quote(tokens[0], safe='')}"

    async def serve() -> None:
        classroom = Classroom(tokens)
        options = {"people": load_people(folder), "base_url": base_url, "tls": tls}
        make_server(load_runs(folder), classroom, **options).add_sockets(sockets)
        print(f"The page is at {teacher}", flush=True)
        if tokens:
            print(f"The class opens {address}#class={tokens[1]}", flush=True)
        print("Ctrl-C ends it.", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[teacher], daemon=True).start()
        with suppress(OSError):  # whoever starts an attack is told
            classroom.attacks.prepare()
        try:
            await asyncio.Event().wait()
        finally:
            classroom.attacks.close()

    allow_many_connections()
    asyncio.run(serve())


def make_server(
    runs: Runs,
    classroom: Classroom,
    *,
    people: Runs | None = None,
    base_url: str = "/",
    tls: ssl.SSLContext | None = None,
) -> HTTPServer:
    """All that can be asked for: the files of the page, the events, and two routes to post to."""
    paths = {"events": Events, "teach": Teach, "hand-in": HandIn, "(.*)": PageFile}
    routes = [(f"{re.escape(base_url)}{path}", handler) for path, handler in paths.items()]
    settings = {
        "classroom": classroom,
        "file": _files_of(runs, people),
        "budgets": {},
        "streams": Counter(),
        "log_function": lambda _: None,
    }
    app = Application([*routes, (".*", Handler)], **settings)
    return HTTPServer(
        app,
        ssl_options=tls,
        max_body_size=MAX_BYTES,
        idle_connection_timeout=IDLE_SECONDS,
        body_timeout=IDLE_SECONDS,
        no_keep_alive=FEW_SOCKETS,
    )


def _files_of(runs: Runs, people: Runs | None) -> Callable[[str], tuple[bytes, bytes]]:
    """By its name, a file of the page, made when it is first asked for: plain and compressed."""
    makers = page_files(runs, people)

    @cache
    def file(name: str) -> tuple[bytes, bytes]:
        content = makers[name]()
        if name == "index.html":
            content = content.replace(b"<!-- server -->", b'<meta name="fl-gan-server" content="yes">')
        return content, gzip.compress(content, 6)

    return file


class Handler(RequestHandler):
    """What all answers have in common: headers, and who is held back. By itself it has nothing to give."""

    @property
    def classroom(self) -> Classroom:
        return self.settings["classroom"]

    def set_default_headers(self) -> None:
        self.clear_header("Server")  # tells which version of tornado it is
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        headers, tokens = self.request.headers, self.classroom.tokens
        self.token = headers.get("Authorization", "").removeprefix("Bearer ").encode()
        teaches = tokens is not None and hmac.compare_digest(self.token, tokens[0].encode())
        if self.asks_too_much() and not teaches:
            raise HTTPError(429)
        try:
            host = urlsplit(f"//{self.request.host}").hostname or ""
        except ValueError:
            raise HTTPError(400) from None
        if tokens is None and (not is_this_computer(host) or "X-Forwarded-For" in headers):
            raise HTTPError(403)  # a name of another site that points here, or a proxy that others can reach

    def asks_too_much(self) -> bool:
        """A token bucket for each address."""
        budgets, address, now = self.settings["budgets"], self.request.remote_ip, time.monotonic()
        left, then = budgets.pop(address, (MANY_REQUESTS, now))
        left = min(MANY_REQUESTS, left + REQUESTS_A_SECOND * (now - then)) - 1
        budgets[address] = max(left, 0.0), now
        if len(budgets) > 10_000:
            del budgets[next(iter(budgets))]  # the one that has been quiet for longest
        return left < 0

    def get(self) -> None:
        raise HTTPError(404)

    def write_error(self, status_code: int, **_: Any) -> None:
        words = {
            403: "This is for the teacher, or the class: use the address that the teacher gives you.",
            404: "There is no such page.",
            429: "Too many requests: wait some seconds.",
        }
        self.answer(words.get(status_code, "The server cannot do that."), status_code)

    def answer(self, words: str, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(words)


class PageFile(Handler):
    def get(self, name: str) -> None:
        name = name or "index.html"
        try:
            content, compressed = self.settings["file"](name)
        except KeyError:
            raise HTTPError(404) from None
        self.set_header("Content-Type", f"{TYPES[Path(name).suffix]}; charset=utf-8")
        self.set_header("Vary", "Accept-Encoding")
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            content = compressed
        self.write(content)

    head = get


class Events(Handler):
    """The stream that each viewer reads: all that there is at first, then what is new."""

    unsent = 0

    async def get(self) -> None:
        viewers, streams, address = self.classroom.viewers, self.settings["streams"], self.request.remote_ip
        if len(viewers) >= MAX_STREAMS or streams[address] >= MAX_STREAMS // 2:
            raise HTTPError(503)
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # a proxy must not keep events back
        viewers.add(self.tell)
        streams[address] += 1
        self.tell(json.dumps(self.classroom.snapshot()))
        with suppress(asyncio.CancelledError):  # the server ends
            while self.tell in viewers:
                await asyncio.sleep(15)
                self.send(": still here\n\n")  # or a proxy would end the connection

    def tell(self, message: str) -> None:
        self.send(f"data: {message}\n\n")

    def send(self, text: str) -> None:
        stream = self.request.connection.stream
        self.unsent = len(text) + (self.unsent if stream.writing() else 0)
        if stream.closed() or self.unsent > MAX_UNSENT:
            self.on_connection_close()  # it may have closed before it was a viewer
            stream.close()
        else:
            self.write(text)
            self.flush()

    def on_connection_close(self) -> None:
        if self.tell in self.classroom.viewers:
            self.classroom.viewers.discard(self.tell)
            self.settings["streams"] -= Counter([self.request.remote_ip])  # and forgets who has none left


class Post(Handler):
    """A message in JSON from somebody who has a token that counts here."""

    num_tokens: int

    def post(self) -> None:
        tokens, headers = self.classroom.tokens, self.request.headers
        if tokens is None:
            if headers.get("Origin", f"//{self.request.host}").partition("//")[2] != self.request.host:
                raise HTTPError(403)  # a page of another site
        elif not any(hmac.compare_digest(self.token, token.encode()) for token in tokens[: self.num_tokens]):
            raise HTTPError(403)
        if headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise HTTPError(415)
        try:
            self.answer(self.take(json.loads(self.request.body)) or "")
        except Refused as refusal:
            self.answer(str(refusal), 409)
        except (ValueError, RecursionError):
            raise HTTPError(400) from None


class Teach(Post):
    num_tokens = 1  # the teacher's

    def take(self, message: Any) -> str | None:
        match message:
            case {"do": "start", "target": str(target)} if target in map(str, range(10)):
                return self.classroom.start(target=int(target))
            case {"do": "start", "secret": int(secret)}:
                return self.classroom.start(secret=secret)
            case {"do": "stop"}:
                return self.classroom.attacks.stop()
            case {"do": "reveal"}:
                return self.classroom.reveal()
            case {"do": "drop", "secret": int(secret)}:
                return self.classroom.drop(secret)
            case {"do": "drop"} if len(message) == 1:
                return self.classroom.drop()
            case {"do": "start over"}:
                return self.classroom.start_over()
            case {"do": "invite", "address": str(address)}:
                return self.classroom.invite(address)
        raise ValueError("not what a teacher can do")


class HandIn(Post):
    num_tokens = 2  # the teacher's and that of the class

    def take(self, message: Any) -> str:
        match message:
            case {"nickname": str(nickname), "drawings": str(packed)}:
                self.classroom.hand_in(nickname, base64.b64decode(packed, validate=True))
                return "Your drawings have arrived. The teacher chooses whose secret is attacked: watch Live, above."
        raise ValueError("no drawings")


def allow_many_connections() -> None:
    """As many open files as the system allows: each viewer is one."""
    with suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


def listen(ip: str, port: int) -> list[socket.socket]:
    """Sockets on that port, or on one of the next where it is taken; a ValueError if there is none."""
    for candidate in range(port, min(port + 20, 65536)):
        try:
            return bind_sockets(candidate, ip or None, reuse_port=False)
        except (OSError, TypeError, UnicodeError) as error:
            if getattr(error, "errno", None) not in (errno.EADDRINUSE, errno.EACCES):
                raise ValueError(
                    f"ip is {ip!r:.80}: it must be an address or a name of this computer, without a port, or '0.0.0.0' "
                    f"for all its networks ({error})"
                ) from error
    raise ValueError(f"port {port} and the next ones are taken, or not for everybody: choose another")


def is_this_computer(ip: str) -> bool:
    try:
        return ip == "localhost" or ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def _host(ip: str) -> str:
    """As it stands in an address; for all networks, this computer's address in one of them."""
    if ip in ("", "0.0.0.0", "::"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            ip = socket.gethostname()
            with suppress(OSError):
                probe.connect(("192.0.2.1", 9))  # sends nothing
                ip = probe.getsockname()[0]
    return f"[{quote(ip, safe=':')}]" if ":" in ip else quote(ip)
