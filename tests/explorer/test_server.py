"""What a viewer of the page can see and do, and what not: against the real server, with attacks that are made up."""

import asyncio
import base64
import http.client
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pytest
import segno
from tornado.netutil import bind_sockets

from fl_gan_lib.explorer import server
from fl_gan_lib.explorer.classroom import Classroom
from fl_gan_lib.explorer.page import as_png

TEACHER, CLASS = "teach3r", "cl4ss"
JSON = {"Content-Type": "application/json"}


class MadeUpAttacks:
    """In place of `LiveAttacks`: draws nothing, and does what it is told."""

    def __init__(self, report) -> None:
        self.report, self.state = report, {"running": False, "frames": []}

    def start(self, **what) -> bool:
        if self.state["running"]:
            return False
        self.state = {"running": True, "title": what["title"], "frames": []}
        self.report(self.state)
        return True

    def draw(self, number: int, size: int = 5_000) -> None:
        frame = {"round": number, "png": "x" * size}
        self.state["frames"].append(frame)
        self.report({"round": number, "frame": frame})

    def stop(self) -> None:
        self.state["running"] = False
        self.report({"running": False})

    def clear(self) -> None:
        self.state = {"running": False, "frames": []}
        self.report(self.state)


class Site:
    def __init__(self, port: int, classroom: Classroom) -> None:
        self.port, self.classroom, self.attacks = port, classroom, classroom.attacks

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.text = "" if path.endswith("events") else answer.read().decode()
        return answer

    def post(self, path: str, message: object, token: str = "", **headers: str) -> http.client.HTTPResponse:
        headers = JSON | ({"Authorization": f"Bearer {token}"} if token else {}) | headers
        return self.ask("POST", path, json.dumps(message).encode(), **headers)

    def hand_in(self, nickname: str, drawn: bytes, token: str = CLASS) -> http.client.HTTPResponse:
        return self.post("/hand-in", {"nickname": nickname, "drawings": base64.b64encode(drawn).decode()}, token)


class Stream:
    """A viewer who reads the events."""

    def __init__(self, site: Site) -> None:
        self.answer = site.ask("GET", "/events")
        self.text = ""

    def until(self, wanted) -> dict:
        """The next event that is wanted."""
        while line := self.answer.readline().decode():
            self.text += line
            if line.startswith("data: ") and wanted(event := json.loads(line[6:])):
                return event
        raise AssertionError("the stream has ended")

    def hello(self) -> dict:
        return self.until(lambda event: "hello" in event)

    def round(self, number: int) -> dict:
        return self.until(lambda event: event.get("news", {}).get("round") == number)


@contextmanager
def serving(records, tokens, **options) -> Iterator[Site]:
    """In a thread of its own, on a free port."""
    started: queue.Queue[tuple[Site, Callable[[], object]]] = queue.Queue()

    async def serve() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        classroom = Classroom(tokens, make_attacks=MadeUpAttacks)
        sockets = bind_sockets(0, "127.0.0.1")
        server.make_server({"attack": records}, classroom, **options).add_sockets(sockets)
        started.put((Site(sockets[0].getsockname()[1], classroom), partial(loop.call_soon_threadsafe, ended.set)))
        await ended.wait()

    threading.Thread(target=asyncio.run, args=[serve()], daemon=True).start()
    site, end = started.get(timeout=10)
    yield site
    end()


@pytest.fixture
def alone(record) -> Iterator[Site]:
    with serving({3: record}, None) as site:
        yield site


@pytest.fixture
def shared(record) -> Iterator[Site]:
    with serving({3: record}, (TEACHER, CLASS)) as site:
        yield site


def secret(seed: int = 0, number: int = 8) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, (number, 28, 28), dtype=np.uint8).tobytes()


def test_the_page_and_its_records_are_served_and_asked_for_again_only_if_they_change(alone):
    page = alone.ask("GET", "/")
    assert page.status == 200 and 'name="fl-gan-server"' in page.text and "Content-Encoding" not in page.headers
    for name in re.findall(r'(?:src|href)="([^":]+)"', page.text):
        assert alone.ask("GET", f"/{name}").status == 200
    shown = alone.ask("GET", "/runs/attack/3.js")
    assert shown.text.startswith('flGanRecord(...["attack", "3", {"side": 28')
    assert alone.ask("GET", "/runs/attack/3.js", If_None_Match=shown.headers["Etag"]).status == 304
    assert alone.ask("GET", "/runs/attack/4.js").text.count("make records DIGITS=4") == 1


def test_the_page_of_the_people_is_served_and_has_no_live_part(record):
    people = {"attack": {4: replace(record, config=record.config | {"classes": list("abcde"), "target": 4})}}
    with serving({3: record}, None, people=people) as site:
        page = site.ask("GET", "/people/index.html")
        assert page.status == 200 and "fl-gan-server" not in page.text
        for name in re.findall(r'(?:src|href)="([^":]+)"', page.text):
            assert site.ask("GET", str(PurePosixPath("/people", name)).replace("/people/..", "")).status == 200
        assert site.ask("GET", "/people/runs/attack/4.js").text.startswith('flGanRecord(...["attack", "4", {"side": 28')


@pytest.mark.parametrize(
    "path",
    [
        *("/x", "/runs", "/runs/attack/11.js", "/runs/attack/../attack/3.js", "/page.py", "/server.py", "//etc/passwd"),
        *(f"{up}/etc/passwd" for up in ("/..", "/%2e%2e", "/runs/..%2f..", "/runs/" + "../" * 12)),
        *("/api/kernels", "/api/contents", "/static/x", "/teach/x", "/events/x", "/index.html%00"),
    ],
)
def test_there_is_nothing_but_the_page(alone, path):
    answer = alone.ask("GET", path)
    assert answer.status == 404 and answer.text == "There is no such page."


@pytest.mark.parametrize("path", ["/", "/page.js", "/runs/attack/3.js", "/x", "/teach", "/events"])
def test_headers(alone, path):
    headers = alone.ask("GET", path).headers
    assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Referrer-Policy"] == "no-referrer" and "Server" not in headers and "Set-Cookie" not in headers


def test_all_viewers_see_the_attack_and_who_comes_late_sees_all_of_it(shared):
    early = Stream(shared)
    early.hello()
    assert shared.post("/teach", {"do": "start", "target": "3"}, TEACHER).status == 200
    for number in (1, 2, 3):
        shared.attacks.draw(number)
        start = time.monotonic()
        assert len(json.dumps(early.round(number))) < 20_000 and time.monotonic() - start < 1
    late = Stream(shared).hello()
    assert [frame["round"] for frame in late["news"]["frames"]] == [1, 2, 3]
    assert shared.post("/teach", {"do": "start", "target": "4"}, TEACHER).status == 409
    assert shared.post("/teach", {"do": "stop"}, TEACHER).status == 200
    early.until(lambda event: event.get("news") == {"running": False})


def test_no_byte_of_a_drawing_is_seen_before_it_is_revealed(shared):
    drawn, viewer = secret(), Stream(shared)
    marks = [base64.b64encode(drawn[i : i + 12]).decode() for i in range(0, len(drawn) - 12, 12)]
    seen = [shared.hand_in("Ada  <b>", drawn).text]
    listed = viewer.until(lambda event: event.get("secrets"))["secrets"]
    assert listed == [{"id": 1, "nickname": "Ada <b>", "number": 8}]
    for message in ({"do": "reveal"}, {"do": "start", "secret": 1}, {"do": "stop"}):
        seen.append(shared.post("/teach", message, TEACHER).text)
    late = Stream(shared)
    late.hello()
    picture = as_png(np.frombuffer(drawn, np.uint8).reshape(1, -1, 28, 28))
    seen += [viewer.text, late.text, *(shared.ask("GET", path).text for path in ("/", "/page.js", "/runs/attack/3.js"))]
    assert picture not in "".join(seen) and not any(mark in text for mark in marks for text in seen)

    assert shared.post("/teach", {"do": "reveal"}, CLASS).status == 403
    assert shared.post("/teach", {"do": "reveal"}, TEACHER).status == 200
    assert viewer.until(lambda event: event.get("revealed"))["revealed"] == picture
    shared.attacks.draw(1)
    assert shared.post("/teach", {"do": "drop"}, TEACHER).status == 200
    gone = Stream(shared).hello()
    assert not gone["secrets"] and gone["revealed"] is None and not gone["news"]["frames"]
    assert shared.post("/teach", {"do": "start", "secret": 1}, TEACHER).text == "These drawings were dropped."


def test_who_may_do_what(shared, alone):
    start = {"do": "start", "target": "3"}
    assert [shared.post("/teach", start, token).status for token in ("", "guessed", CLASS)] == [403] * 3
    assert [shared.hand_in("Ada", secret(), token).status for token in ("", "guessed")] == [403] * 2
    assert not shared.classroom.handed_in and not shared.attacks.state["running"]
    assert shared.hand_in("Ada", secret()).status == 200
    # On this computer alone anybody may, but no page of another site, and none whose name was made to point here.
    here = f"127.0.0.1:{alone.port}"
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert alone.post("/teach", start, **headers).status == 403
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}):
        assert {alone.post("/teach", start, **headers).status, alone.ask("GET", "/", **headers).status} == {403}
    assert alone.ask("GET", "/", Host="[::1").status == 400
    assert alone.ask("POST", "/teach", json.dumps(start).encode(), Content_Type="text/plain").status == 415
    assert not alone.attacks.state["running"]
    assert alone.post("/teach", start, Origin=f"http://{here}").status == 200


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (("Ada", secret(number=7)), "there are 7 drawings: make 8 to 20 of one symbol"),
        (("Ada", secret(number=21)), "there are 21 drawings"),
        (("Ada", bytes(8 * 784)), "drawing 1 is empty"),
        (("Ada", secret(number=1) * 8), "all drawings are the same picture"),
        ((" \n ", secret()), "Give a nickname."),
        (("Bob", secret(1)), "Bob has handed something in already"),
    ],
)
def test_what_is_wrong_with_drawings_is_said_at_once(shared, message, words):
    assert shared.hand_in("Bob", secret()).status == 200
    refused = shared.hand_in(*message)
    assert refused.status == 409 and words in refused.text and len(shared.classroom.handed_in) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"3", b'{"do": "start"}', b'{"do": "start", "target": "11"}', b"[" * 50_000),
        *(b'{"do": "start", "target": 3}', b'{"do": "start", "secret": "1"}', b'{"do": ["stop"]}', b"\xff\xfe"),
        *(b'{"nickname": "A", "drawings": "%b"}' % drawn for drawn in (b"x", b"AAAA")),
        *(b'{"nickname": 3, "drawings": ""}', b'{"do": "drop", "secret": "1"}'),
    ],
)
def test_nonsense_is_refused_and_stops_nothing(alone, body):
    for path in ("/teach", "/hand-in"):
        assert alone.ask("POST", path, body, **JSON).status == 400
    assert alone.ask("GET", "/").status == 200 and not alone.attacks.state["running"]


def test_too_much_is_refused(alone):
    with suppress(ConnectionError):  # it does not read so much
        assert alone.ask("POST", "/hand-in", bytes(200_000), **JSON).status == 400
    for method in ("PUT", "DELETE", "PATCH"):
        assert alone.ask(method, "/teach", b"{}", **JSON).status == 405
    assert alone.ask("GET", "/").status == 200


def test_the_class_is_invited_with_a_code_and_only_by_the_teacher(shared, alone):
    invite = {"do": "invite", "address": "http://192.0.2.1:8866/"}
    invitation = json.loads(shared.post("/teach", invite, TEACHER).text)
    assert invitation["address"] == f"http://192.0.2.1:8866/#class={CLASS}"
    assert invitation["code"] == segno.make(invitation["address"]).svg_data_uri(scale=5, light="white")
    assert shared.post("/teach", invite, CLASS).status == 403
    assert "make demo IP=0.0.0.0" in alone.post("/teach", invite).text


def test_the_teacher_starts_over_and_the_class_needs_a_new_invitation(shared):
    for nickname in ("Ada", "Bob"):
        shared.hand_in(nickname, secret())
    assert shared.post("/teach", {"do": "start over"}, CLASS).status == 403
    shared.post("/teach", {"do": "start", "secret": 2}, TEACHER)
    assert shared.post("/teach", {"do": "start over"}, TEACHER).status == 200
    assert not Stream(shared).hello()["secrets"] and not shared.attacks.state["running"]
    assert shared.hand_in("Ada", secret()).status == 403
    invitation = shared.post("/teach", {"do": "invite", "address": "http://x/"}, TEACHER).text
    assert shared.hand_in("Ada", secret(), json.loads(invitation)["address"].partition("=")[2]).status == 200


def test_one_address_cannot_take_all_the_room(shared, monkeypatch):
    monkeypatch.setattr(server, "MAX_STREAMS", 4)
    first, second = Stream(shared), Stream(shared)
    assert [one.answer.status for one in (first, second, Stream(shared))] == [200, 200, 503]
    first.answer.close()
    time.sleep(0.5)
    assert Stream(shared).answer.status == 200


def test_dropping_nothing_leaves_an_attack_on_a_digit_alone(shared):
    shared.post("/teach", {"do": "start", "target": "3"}, TEACHER)
    assert shared.post("/teach", {"do": "drop"}, TEACHER).status == 200 and shared.attacks.state["running"]


def test_a_viewer_who_has_gone_before_the_answer_is_no_viewer(shared):
    for _ in range(20):
        gone = socket.create_connection(("127.0.0.1", shared.port))
        time.sleep(0.02)  # or the request is read before the end of the connection has come
        gone.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        gone.close()
    time.sleep(0.5)
    assert not shared.classroom.viewers


def test_idle_connections_and_a_slow_reader_hold_nobody_up(shared, monkeypatch):
    monkeypatch.setattr(server, "MAX_UNSENT", 50_000)
    server.allow_many_connections()
    idle = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(1000)]
    slow = socket.create_connection(("127.0.0.1", shared.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    viewer = Stream(shared)
    viewer.hello()
    start = time.monotonic()
    for number in range(1, 400):
        shared.attacks.draw(number, size=20_000)
        viewer.round(number)
    assert time.monotonic() - start < 20 and shared.ask("GET", "/").status == 200
    time.sleep(1)
    assert len(shared.classroom.viewers) == 1, "the slow reader is still waited for"
    for one in (*idle, slow):
        one.close()


def test_who_floods_is_held_back_for_some_seconds_but_not_the_teacher(shared, monkeypatch):
    monkeypatch.setattr(server, "MANY_REQUESTS", 20)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: shared.ask("GET", "/index.js").status, range(200)))
    assert set(statuses) == {200, 429}
    assert shared.post("/teach", {"do": "stop"}, TEACHER).status == 200
    time.sleep(1)
    assert shared.ask("GET", "/").status == 200


def test_it_can_stand_behind_a_proxy_under_a_path_of_its_own(record):
    with serving({3: record}, (TEACHER, CLASS), base_url="/user/ada/proxy/") as site:
        page = site.ask("GET", "/user/ada/proxy/")
        assert page.status == 200 and not re.findall(r'(?:src|href)="/', page.text)
        assert site.ask("GET", "/user/ada/proxy/page.js").status == 200 and site.ask("GET", "/page.js").status == 404


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("port", value) for value in (-1, 0, 65536, 8866.0, "8866", True)),
        *(("ip", value) for value in ("127.0.0.1:8866", "http://127.0.0.1", "300.1.1.1", "192.0.2.1", " ", 5)),
    ],
)
def test_what_is_out_of_range_is_named_before_anything_is_served(option, value, tmp_path):
    with pytest.raises(ValueError, match=f"^{option} is {re.escape(repr(value))}: it must be "):
        server.serve_demo(tmp_path, **{option: value})


def test_what_is_missing_is_named(tmp_path):
    for name in ("folder of records", "certificate", "key"):
        options = {} if name.startswith("folder") else {name: "nowhere"}
        with pytest.raises(FileNotFoundError, match=f"no {name} at nowhere: name the one to use"):
            server.serve_demo(tmp_path if options else "nowhere", **options)
    (tmp_path / "key.pem").touch()
    with pytest.raises(ValueError, match="name the certificate that belongs to it"):
        server.serve_demo(tmp_path, key=tmp_path / "key.pem")
