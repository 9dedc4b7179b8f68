import contextlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import nbformat
import numpy as np
import psutil
import pytest
import websocket
from nbformat import v4

from fl_gan_lib.__main__ import main
from fl_gan_lib.explorer.server import Demo, is_this_computer, serve_demo, static_picture

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PROTOCOL = "v1.kernel.websocket.jupyter.org"
MOST_VIEWERS = 3


def test_static_cells_become_their_pictures_and_the_others_stay():
    picture = v4.new_output("execute_result", {"image/png": "iVBO\nRw0K"})
    static = v4.new_code_cell("plot()", metadata={"tags": ["static"]}, outputs=[picture])
    other = v4.new_code_cell("print(1)")
    shown = static_picture(static)
    assert shown.cell_type == "markdown" and "data:image/png;base64,iVBORw0K" in shown.source
    assert static_picture(other) is other
    nbformat.validate(v4.new_notebook(cells=[shown, other]))


def test_a_picture_cannot_carry_html():
    picture = v4.new_output("display_data", {"image/png": 'iVBO"><script>alert(1)</script>'})
    cell = v4.new_code_cell("", metadata={"tags": ["static"]}, outputs=[picture])
    assert static_picture(cell).source.count("<") == 1


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no notebook at nowhere.ipynb: name the one to use"):
        serve_demo("nowhere.ipynb")
    (tmp_path / "key.pem").touch()
    with pytest.raises(FileNotFoundError, match=r"no certificate at nowhere.pem"):
        serve_demo(tmp_path, certificate="nowhere.pem")
    with pytest.raises(ValueError, match="name the certificate that belongs to it"):
        serve_demo(tmp_path, key=tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("port", value) for value in (-1, 0, 65536, 8866.0, "8866", True)),
        *(("viewers", value) for value in (0, -3, 2.5, None)),
        *(("ip", value) for value in ("127.0.0.1:8866", "http://127.0.0.1", "300.1.1.1", "192.0.2.1", " ", 5)),
    ],
)
def test_what_is_out_of_range_is_named_before_anything_is_served(option, value, tmp_path, monkeypatch):
    monkeypatch.setattr(Demo, "launch_instance", lambda *_, **__: pytest.fail("it was served"))
    with pytest.raises(ValueError, match=f"^{option} is {re.escape(repr(value))}: it must be "):
        serve_demo(tmp_path, **{option: value})


def test_files_may_be_in_the_home_folder(tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr(Demo, "launch_instance", lambda arguments, config: served.extend([*arguments, config]))
    monkeypatch.setattr(os, "environ", os.environ | {"HOME": str(tmp_path)})
    (tmp_path / "page.ipynb").touch()
    serve_demo("~/page.ipynb", port=np.int64(9000), viewers=np.int64(3))
    notebook, config = served
    assert notebook == str(tmp_path / "page.ipynb") and (config.Voila.port, config.Kernels.max_viewers) == (9000, 3)
    assert type(config.Voila.port) is type(config.Kernels.max_viewers) is int
    for name in ("certificate", "key"):
        with pytest.raises(FileNotFoundError, match=f"no {name} at {re.escape(str(tmp_path))}"):
            serve_demo("~/page.ipynb", **{name: "~/nowhere.pem"})


@pytest.mark.parametrize("token", ["s3cret+A&b#c%41", "?/ =;:@", "Übung\n", "simple"])
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "fe80::1%eth0", "my-laptop"])
def test_the_printed_address_carries_the_token_whatever_is_in_it(token, ip):
    address = Demo.display_url.fget(SimpleNamespace(ip=ip, port=8866, token=token, tls=None))
    parts = urlsplit(address)
    assert parse_qs(parts.query) == {"token": [token]} and not parts.fragment and parts.path == "/"
    assert parts.hostname == ip.replace("%", "%25") and parts.port == 8866 and address.isascii()


def test_the_command_listens_on_this_machine_alone_unless_told_otherwise(monkeypatch):
    served = {}
    monkeypatch.setattr("fl_gan_lib.explorer.server.serve_demo", lambda notebook, **options: served.update(options))
    monkeypatch.setattr(sys, "argv", ["fl_gan_lib", "demo", "--no-browser"])
    main()
    assert served.pop("ip") == "127.0.0.1"
    assert served == {"port": 8866, "open_browser": False, "certificate": None, "key": None, "viewers": 40}


@pytest.mark.parametrize(
    ("ip", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True)]
    + [(ip, False) for ip in ("", "0.0.0.0", "::", "192.168.1.5", "my-laptop")],
)
def test_only_other_computers_need_a_token(ip, alone):
    assert is_this_computer(ip) is alone


class Site:
    """A running demo, asked for paths as they are: nothing cleans them up on the way."""

    def __init__(self, address: str, pid: int) -> None:
        self.address, self.pid = address, pid
        parts = urlsplit(address)
        self.host, self.tls = f"127.0.0.1:{parts.port}", parts.scheme == "https"
        self.token = parts.query.removeprefix("token=")
        self.kernel = ""

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        trusting = {"context": ssl._create_unverified_context()} if self.tls else {}
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = kind(self.host, timeout=60, **trusting)
        connection.putrequest(method, path, skip_host="Host" in headers)
        headers |= {"Content-Length": str(len(body))} if body else {}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.text = answer.read().decode(errors="replace")
        return answer

    def connect(self, kernel: str, *, protocol: str | None = PROTOCOL, **options) -> websocket.WebSocket:
        address = f"{'wss' if self.tls else 'ws'}://{self.host}/api/kernels/{kernel}/channels?session_id={uuid.uuid4()}"
        options = {"suppress_origin": "origin" not in options, "sslopt": {"cert_reqs": ssl.CERT_NONE}} | options
        return websocket.create_connection(address, subprotocols=protocol and [protocol], timeout=30, **options)


def kernel_of(page: str) -> str:
    return re.search(r'"kernelId": "([\w-]+)"', page)[1]


@contextlib.contextmanager
def running(*options: str, log: Path) -> Iterator[Site]:
    command = [
        sys.executable,
        "-m",
        "fl_gan_lib",
        "demo",
        str(NOTEBOOKS / "04_visual_comparison.ipynb"),
        "--no-browser",
    ]
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen([*command, *options], cwd=log.parent, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"running at:\n(http\S+)", log.read_text(encoding="utf-8"))):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield Site(found[1], server.pid)
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Iterator[Site]:
    """A demo for this computer."""
    log = tmp_path_factory.mktemp("alone") / "log"
    with running(f"--viewers={MOST_VIEWERS}", log=log) as site:
        yield site


@pytest.fixture
def kernel(alone) -> str:
    """The kernel of a viewer of `alone`, who stays as long as the tests do not take a minute each."""
    if alone.ask("GET", f"/api/kernels/{alone.kernel}").status != 200:
        alone.kernel = kernel_of(alone.ask("GET", "/").text)
    return alone.kernel


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Site]:
    """A demo for a class, with TLS."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("shared")
    request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 1 -subj /CN=demo"
    subprocess.run(["openssl", *request.split()], cwd=folder, check=True, capture_output=True)
    files = (f"--certificate={folder / 'certificate.pem'}", f"--key={folder / 'key.pem'}")
    with running("--ip=0.0.0.0", *files, log=folder / "log") as site:
        yield site


def message(channel: str, kind: str, content: dict, *, version: str = "2.1.0", name: str = "") -> bytes:
    """As JupyterLab writes it for a kernel."""
    header = {"msg_id": name or uuid.uuid4().hex, "username": "", "session": "", "msg_type": kind, "version": "5.3"}
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, {}, {"version": version}, content))]
    places = [8 * (len(parts) + 2)]
    for part in parts:
        places.append(places[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in (len(places), *places)) + b"".join(parts)


def answers(viewer: websocket.WebSocket) -> list[tuple[str, dict]]:
    """What comes from the kernel before it has answered a last question, one that everybody may ask."""
    name, found, last = uuid.uuid4().hex, [], set()
    viewer.send_binary(message("shell", "kernel_info_request", {}, name=name))
    while last != {"kernel_info_reply", "idle"}:
        raw = viewer.recv()
        if not raw:
            raise ConnectionError("the server has closed the connection")
        places = [int.from_bytes(raw[8 * place : 8 * place + 8], "little") for place in range(1, 7)]
        _, header, parent, _, content = (raw[start:end] for start, end in pairwise(places))
        kind, content = json.loads(header)["msg_type"], json.loads(content)
        if kind not in ("status", "kernel_info_reply"):
            found.append((kind, content))
        elif json.loads(parent).get("msg_id") == name:
            last |= {kind, content.get("execution_state")} & {"kernel_info_reply", "idle"}
    return found


# Whatever a Jupyter server or a Voila of several notebooks has at these places.
@pytest.mark.parametrize(
    "path",
    [
        *("/api/terminals", "/terminals/websocket/1", "/api/contents", "/voila/api/contents", "/api/sessions"),
        *("/api/kernels", "/api/kernelspecs", "/api/status", "/api/config/x", "/metrics", "/lab", "/tree"),
        *("/voila/tree", "/voila/render/03_gan_attack.ipynb", "/03_gan_attack.ipynb", "/nbextensions/x"),
        *("/voila/execution/1-1-1-1-1", "/voila/query/1-1-1-1-1", "/files/04_visual_comparison.ipynb"),
        *(f"/voila/files/{name}" for name in ("04_visual_comparison.ipynb", "runs/attack_3.npz", "speed.md", "x.png")),
        *(f"/voila/files/{up}/img/explorer.png" for up in ("..", "%2e%2e", "..%2f", ".%2e", "runs/../..")),
        *(f"/voila/{place}/..%2f..%2fapp.py" for place in ("static", "labextensions", "api/themes")),
        *(f"/voila/{place}{'/..' * 12}/etc/passwd" for place in ("static", "templates/lab/static", "files")),
        *("/voila/static//etc/passwd", "/voila/files//etc/passwd", "/voila/templates/../../static/x"),
    ],
)
def test_there_is_nothing_but_the_page(alone, path):
    answer = alone.ask("GET", path)
    if answer.status == 302:
        answer = alone.ask("GET", answer.headers["Location"])
    assert answer.status == 403 if "/voila/files/" in path else answer.status >= 400
    assert len(answer.text) < 10_000
    assert "root:" not in answer.text and str(NOTEBOOKS.parent) not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/api/{what}") for what in ("kernels", "sessions", "terminals", "shutdown", "contents/x.py")),
        *(("POST", f"/api/kernels/{{kernel}}/{verb}") for verb in ("restart", "interrupt")),
        ("DELETE", "/api/kernels/{kernel}"),
        ("POST", "/voila/api/shutdown/{kernel}"),
        ("PUT", "/api/contents/x.py"),
        ("POST", "/login"),
    ],
)
def test_nothing_can_be_started_ended_or_written(alone, kernel, method, path):
    answer = alone.ask(method, path.format(kernel=kernel), b'{"name": "python3"}')
    assert answer.status in (403, 404, 405)
    assert alone.ask("GET", f"/api/kernels/{kernel}").status == 200


@pytest.fixture
def viewer(alone, kernel) -> Iterator[websocket.WebSocket]:
    with contextlib.closing(alone.connect(kernel)) as socket:
        # The page's own way to learn what widgets there are.
        socket.control = uuid.uuid4().hex
        control = {"comm_id": socket.control, "target_name": "jupyter.widget.control", "data": {}}
        socket.send_binary(message("shell", "comm_open", control, version="1.0.0"))
        yield socket


def tell(viewer: websocket.WebSocket, comm: str, data: dict) -> list[tuple[str, dict]]:
    """Send a widget's message, and return the answers."""
    viewer.send_binary(message("shell", "comm_msg", {"comm_id": comm, "data": data}))
    return answers(viewer)


def states_of(viewer: websocket.WebSocket) -> dict[str, dict]:
    ((_, content),) = tell(viewer, viewer.control, {"method": "request_states"})
    return content["data"]["states"]


@pytest.fixture
def explorer(viewer) -> str:
    """The name of its widget."""
    (name,) = (name for name, model in states_of(viewer).items() if "can_train" in model["state"])
    return name


def test_the_page_can_ask_for_the_widgets_one_by_one(viewer, explorer):
    viewer.send_binary(message("shell", "comm_info_request", {"target_name": "jupyter.widget"}))
    ((_, content),) = answers(viewer)
    assert explorer in content["comms"]
    ((_, content),) = tell(viewer, explorer, {"method": "request_state"})
    assert content["data"]["state"]["can_train"]
    ((_, content),) = tell(viewer, explorer, {"method": "custom", "content": {"kind": "load", "run": "oracle"}})
    assert content["data"]["content"]["name"] == "oracle"


def test_a_viewer_runs_no_code_and_changes_no_widget(alone, kernel, viewer, explorer, tmp_path):
    code = f"open({str(tmp_path / 'written')!r}, 'w')"
    before = states_of(viewer)
    widget = {"_model_module": "@jupyter-widgets/controls", "_model_module_version": "2.0.0"}
    widget |= {"_model_name": "TextModel", "_view_name": "TextView", "_view_module": "@jupyter-widgets/controls"}
    widget |= {"_view_module_version": "2.0.0"}
    update = {"method": "update", "state": {"live": {"running": False}, "can_train": False, "_esm": "alert(1)"}}
    for channel, kind, content in [
        *((channel, "execute_request", {"code": code, "silent": False}) for channel in ("shell", "control")),
        ("shell", "execute_request", {"code": "", "user_expressions": {"a": code}}),
        ("shell", "inspect_request", {"code": "records", "cursor_pos": 3}),
        ("shell", "complete_request", {"code": "rec", "cursor_pos": 3}),
        ("shell", "history_request", {"hist_access_type": "tail", "n": 5}),
        ("shell", "comm_open", {"comm_id": "2", "target_name": "jupyter.widget", "data": {"state": widget}}),
        ("shell", "comm_msg", {"comm_id": explorer, "data": update}),
        ("shell", "comm_msg", {"comm_id": explorer}),
        ("control", "comm_msg", {"comm_id": explorer, "data": {"method": "request_state"}}),
        ("stdin", "input_reply", {"value": code}),
        ("control", "debug_request", {"type": "request", "seq": 1, "command": "initialize"}),
        ("control", "create_subshell_request", {}),
        ("control", "shutdown_request", {"restart": False}),
        ("shell", "shutdown_request", {"restart": True}),
    ]:
        viewer.send_binary(message(channel, kind, content))
        assert answers(viewer) == [], kind
    assert states_of(viewer) == before
    with contextlib.closing(alone.connect(kernel, protocol=None)) as older:
        header = {"msg_id": "1", "session": "", "username": "", "msg_type": "execute_request", "version": "5.3"}
        request = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": {"code": code}}
        older.send(json.dumps(request))
        assert answers(viewer) == []
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    "content",
    [{"kind": "start", "target": 10**9}, {"kind": "start", "target": True}, {"kind": "load", "run": "../x"}, 3],
)
def test_the_explorer_ignores_what_it_does_not_know(viewer, explorer, content):
    assert tell(viewer, explorer, {"method": "custom", "content": content}) == []


def test_errors_say_nothing_of_the_computer(viewer):
    answer = tell(viewer, viewer.control, {"method": "custom"})  # fails, with a traceback
    assert "stream" not in [kind for kind, _ in answer]


@pytest.mark.parametrize(
    "nonsense",
    [(2**50).to_bytes(8, "little") * 3, b"", b"x", b"\xff" * 64, message("shell", "x", {})[:-9], "{}", "["],
    ids=["a huge count", "nothing", "a byte", "ones", "half a message", "an object", "half an object"],
)
def test_nonsense_does_not_stop_the_server(alone, kernel, nonsense):
    with contextlib.closing(alone.connect(kernel)) as viewer:
        viewer.send(nonsense) if isinstance(nonsense, str) else viewer.send_binary(nonsense)
        assert answers(viewer) == []


def test_large_messages_and_forms_are_refused(alone, kernel):
    closed = (ConnectionError, websocket.WebSocketConnectionClosedException)
    with contextlib.closing(alone.connect(kernel)) as viewer, pytest.raises(closed):
        viewer.send_binary(bytes(100_000))
        answers(viewer)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        alone.ask("POST", "/login", bytes(100_000))


def test_a_page_of_another_site_reaches_no_kernel(alone, kernel):
    alone.connect(kernel, origin=f"http://{alone.host}").close()
    # One that is elsewhere, and one whose name was made to point to this computer.
    for options in ({"origin": "http://evil.example"}, {"origin": "http://evil.example", "host": "evil.example"}):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            alone.connect(kernel, **options)
    assert alone.ask("GET", "/", Host="evil.example").status == 403
    assert alone.ask("GET", f"/api/kernels/{kernel}", Host="evil.example").status == 403


def test_the_kernel_of_another_viewer_has_to_be_known(alone, kernel):
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        alone.connect(str(uuid.uuid4()))
    assert uuid.UUID(kernel).version == 4


@pytest.mark.parametrize("path", ["/", "/voila/static/voila.js", "/voila/files/x.png", "/api/kernels/1-1-1-1-1", "/x"])
def test_headers(alone, path):
    answer = alone.ask("GET", path)
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert "object-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "Server" not in answer.headers
    for cookie in answer.headers.get_all("Set-Cookie", []):
        assert "SameSite=Strict" in cookie
        # Which the page's own script sends back, to show that it is the page.
        assert "HttpOnly" in cookie or cookie.startswith("_xsrf=")


def test_templates_cannot_be_chosen(alone):
    for query in ("template=../../x", "theme=../../x"):
        assert alone.ask("GET", f"/?{query}").status in (200, 503)


def test_there_are_no_more_viewers_than_allowed(alone, kernel):
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda _: alone.ask("GET", "/"), range(6)))
    assert {page.status for page in pages} <= {200, 503} and sum(page.status == 200 for page in pages) < MOST_VIEWERS
    refused = next(page for page in pages if page.status == 503)
    assert f"{MOST_VIEWERS} viewers are here already" in refused.text


@pytest.mark.skipif(sys.platform != "linux", reason="the mend is for glibc")
def test_the_server_gives_back_what_viewers_needed(tmp_path):
    def come_and_go(number: int) -> float:
        """The server's own memory, in MB, when that many viewers have left."""
        for _ in range(number):
            page = site.ask("GET", "/")
            secret = re.search("_xsrf=[^;]+", str(page.headers))[0]
            form = {"Cookie": secret, "Content-Type": "application/x-www-form-urlencoded"}
            left = site.ask("POST", f"/voila/api/shutdown/{kernel_of(page.text)}", secret.encode(), **form)
            assert left.status == 204
        time.sleep(7)
        return psutil.Process(site.pid).memory_full_info().uss / 1e6

    with running(log=tmp_path / "log") as site:
        assert come_and_go(2) + 8 > come_and_go(8)  # without giving back: 15 to 18 more


def test_a_class_needs_the_token_that_is_printed(shared):
    assert shared.tls and len(shared.token) == 10
    assert urlsplit(shared.address).hostname not in ("0.0.0.0", "127.0.0.1")
    first = shared.ask("GET", "/")
    assert first.status == 302 and first.headers["Location"].startswith("/login")
    assert shared.ask("GET", "/?token=wrong").status == 302
    assert shared.ask("GET", "/login?next=%2F").status == 200
    assert "kernelId" not in first.text
    with_token = shared.ask("GET", f"/?token={shared.token}")
    assert with_token.status == 200
    kernel, cookies = kernel_of(with_token.text), with_token.headers.get_all("Set-Cookie")
    assert cookies and all({"Secure", "SameSite=Strict"} <= set(one.split("; ")) for one in cookies)
    cookie = "; ".join(one.partition(";")[0] for one in cookies)

    assert shared.ask("GET", f"/api/kernels/{kernel}").status == 403
    assert shared.ask("GET", f"/api/kernels/{kernel}", Cookie=cookie).status == 200
    for options in ({}, {"cookie": "username-127-0-0-1=x"}):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            shared.connect(kernel, **options)
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        shared.connect(kernel, cookie=cookie, origin="https://evil.example")
    with contextlib.closing(shared.connect(kernel, cookie=cookie)) as viewer:
        assert answers(viewer) == []


def test_the_token_can_be_typed_but_does_not_change_the_password(shared, tmp_path):
    form = shared.ask("GET", "/login?next=%2F")
    cookie = form.headers["Set-Cookie"].partition(";")[0]
    xsrf = cookie.removeprefix("_xsrf=")
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}

    def log_in(**fields: str) -> int:
        body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
        return shared.ask("POST", "/login?next=%2F", body, **headers).status

    assert log_in(password=shared.token) == 403
    assert log_in(password="wrong", _xsrf=xsrf) == 401
    assert log_in(password=shared.token, new_password="mine", _xsrf=xsrf) == 302
    assert log_in(password="mine", _xsrf=xsrf) == 401
    assert log_in(password=shared.token, _xsrf=xsrf) == 302


@pytest.mark.skipif(os.name == "nt", reason="ends processes the Unix way")
def test_a_chosen_token_holds_on_this_computer_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_TOKEN", "chosen")
    with running(log=tmp_path / "log") as site:
        assert site.address.endswith("?token=chosen")
        assert site.ask("GET", "/").status == 302
