"""How fast the explorer answers, and how large a class a laptop can bear: `python tests/browser/measure.py --help`."""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import psutil
from conftest import DEMO, FLAGS, find_browser, serve
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

ROOT = Path(__file__).parents[2]
# What a browser fetches before it shows its first picture.
WHOLE_PAGE = ("", "page.css", "index.js", "page.js", "runs/attack/3.js")
# From the browser's own time stamp of the click or key until the frame that shows its effect is handed over.
WATCH = """root => {
  window.delays = [];
  const watch = (event) => {
    if (!event.isTrusted) return;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.delays.push(performance.now() - event.timeStamp);
      channel.port2.postMessage(null);
    });
  };
  root.addEventListener("click", watch, true);
  root.addEventListener("keydown", watch, true);
}"""


async def open_explorer(context: BrowserContext, address: str) -> tuple[Page, float]:
    """A page with the explorer, and the seconds until its first picture."""
    page = await context.new_page()
    start = time.monotonic()
    await page.goto(address)
    await page.wait_for_selector(".fl-gan[data-ready=true]")
    return page, time.monotonic() - start


async def measure_latency(address: str, browser: Browser, *, steps: int) -> None:
    """Load the page; click digits and step the slider, alone and with a second run beside it."""
    await asyncio.sleep(60)  # until the server has prepared its attacks
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page, seconds = await open_explorer(context, address)
    await page.close()
    page, again = await open_explorer(context, address)
    print(f"first picture after {1000 * seconds:.0f} ms, the second time after {1000 * again:.0f} ms")
    await page.locator("#explorer .fl-gan").evaluate(WATCH)
    rows = {}
    for beside in ("nothing", "oracle"):
        await page.get_by_label("beside it").select_option(beside)
        for turn in ("the first time", "again"):
            await page.evaluate("window.delays.length = 0")
            for step in range(10 if turn == "the first time" else steps):
                await page.get_by_role("radio", name=f"class {step % 10}").click()
                await page.wait_for_selector(".fl-gan[data-ready=true]")
            await page.wait_for_timeout(200)
            rows[beside, f"click on a digit, {turn}"] = await page.evaluate("window.delays.splice(0)")
        await page.get_by_role("slider", name="round").last.focus()
        for step in range(steps):
            await page.keyboard.press("ArrowRight" if step // 20 % 2 else "ArrowLeft")
            await page.wait_for_timeout(30)  # as fast as a key that is held down repeats
        await page.wait_for_timeout(200)
        rows[beside, "step of the slider"] = await page.evaluate("window.delays.splice(0)")
    table = pd.DataFrame(
        {key: [len(one), np.median(one), np.percentile(one, 95), max(one)] for key, one in rows.items()},
        index=["number", "median, ms", "95th percentile, ms", "maximum, ms"],
    )
    print(table.T.rename_axis(["beside", "event"]).round(1).to_string())


class Viewers:
    """Viewers who load the whole page and then read the stream; what they found."""

    def __init__(self, address: str) -> None:
        AsyncHTTPClient.configure(None, max_clients=2000)
        self.client, self.address = AsyncHTTPClient(), address
        self.pages: list[float] = []  # seconds
        self.delays: list[float] = []  # of a round's event, seconds
        self.largest = 0  # event of a round, bytes
        self.rounds: dict[int, float] = {}  # when each was trained
        self.errors: list[str] = []

    async def view(self, until: asyncio.Event, *, after: float = 0, stay: float | None = None) -> None:
        await asyncio.sleep(after)
        reading = asyncio.ensure_future(self._look())
        waiting = asyncio.ensure_future(until.wait())
        await asyncio.wait([reading, waiting], timeout=stay, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            self.errors.append(f"the stream has ended: {reading.exception()!r}")
        for task in (reading, waiting):
            task.cancel()
        await asyncio.wait([reading, waiting])

    async def _look(self) -> None:
        start = time.monotonic()
        for name in WHOLE_PAGE:
            await self.client.fetch(self.address + name, decompress_response=True)
        self.pages.append(time.monotonic() - start)
        server = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(server.hostname, server.port, limit=2**22)
        try:
            writer.write(f"GET {server.path}events HTTP/1.1\r\nHost: {server.netloc}\r\n\r\n".encode())
            async for line in reader:
                news = json.loads(line[6:]).get("news", {}) if line.startswith(b"data: ") else {}
                if "time" in news and "frames" not in news:
                    self.delays.append(time.time() - news["time"])
                    self.largest = max(self.largest, len(line))
                    self.rounds[news["round"]] = news["time"]
        finally:
            writer.close()

    async def teach(self, **message: object) -> None:
        headers = {"Content-Type": "application/json"}
        request = HTTPRequest(f"{self.address}teach", method="POST", body=json.dumps(message), headers=headers)
        await self.client.fetch(request)

    async def pace(self, number: int) -> float:
        """Seconds a round, the median over the next ones."""
        self.rounds.clear()
        while len(self.rounds) <= number:
            await asyncio.sleep(0.2)
        return float(np.median(np.diff(sorted(self.rounds.values()))))


def memory() -> float:
    """Of the server alone, resident, in MB."""
    (server,) = [one for one in psutil.Process().children() if "fl_gan_lib" in one.cmdline()]
    return server.memory_info().rss / 1e6


@asynccontextmanager
async def attack(viewers: Viewers) -> AsyncIterator[None]:
    """A live attack that runs as long as the block."""
    await viewers.teach(do="start", target="3")
    yield
    await viewers.teach(do="stop")
    await asyncio.sleep(2)


async def measure_load(address: str, browser: Browser, *, number: int, within: float, rounds: int, tabs: int) -> None:
    """A class arrives while an attack trains, and stays; the attack alone before and after; then real browser tabs."""
    alone, crowd, few = Viewers(f"{address}/"), Viewers(f"{address}/"), Viewers(f"{address}/")
    gone = asyncio.Event()
    watching = asyncio.ensure_future(alone.view(gone))
    paces = {}
    async with attack(alone):
        await alone.pace(5)
        paces["alone"] = await alone.pace(rounds)
        arriving = [crowd.view(gone, after=place * within / number) for place in range(number)]
        viewing = asyncio.gather(*arriving)
        await asyncio.sleep(within)
        paces[f"with {number} viewers"] = await alone.pace(rounds)
        resident = memory()
        gone.set()
        await viewing
        gone = asyncio.Event()
        watching = asyncio.ensure_future(few.view(gone))
        paces["alone again"] = await few.pace(rounds)
    if tabs:
        async with attack(few):
            telephones = [await browser.new_context(viewport={"width": 360, "height": 740}) for _ in range(tabs)]
            seconds = [(await open_explorer(telephone, address))[1] for telephone in telephones]
            await few.pace(5)
            paces[f"with {tabs} browser tabs"] = await few.pace(rounds)
            print(f"{tabs} tabs: first picture after at most {max(seconds):.1f} s")
            for telephone in telephones:
                await telephone.close()
    gone.set()
    await watching
    errors = alone.errors + crowd.errors + few.errors
    print(f"{len(crowd.pages)} of {number} viewers had the page; errors: {len(errors)} {sorted(set(errors))[:3]}")
    for what, values in {"the whole page": crowd.pages, "an event": crowd.delays}.items():
        middle, most, last = np.percentile(values, [50, 95, 100])
        print(f"{what}: median {middle:.3f} s, 95th percentile {most:.3f} s, maximum {last:.3f} s")
    print(f"an event of a round: at most {crowd.largest} bytes; server: {resident:.0f} MB resident")
    for name, pace in paces.items():
        print(f"a round, {name}: {pace:.3f} s ({pace / paces['alone'] - 1:+.0%})")


async def measure_soak(address: str, browser: Browser, *, minutes: float, number: int, csv: Path) -> None:
    """Viewers come and go, half a minute to five each, and attacks start and stop: the server's memory, each minute."""
    viewers, gone = Viewers(f"{address}/"), asyncio.Event()
    random, start, rows = np.random.default_rng(0), time.monotonic(), []

    async def come_and_go() -> None:
        while not gone.is_set():
            await viewers.view(gone, after=random.uniform(0, 10), stay=random.uniform(30, 300))

    crowd = [asyncio.ensure_future(come_and_go()) for _ in range(number)]
    running = False
    while time.monotonic() - start < 60 * minutes:
        if len(rows) % 5 == 0:
            await viewers.teach(do="stop" if running else "start", target=str(len(rows) // 5 % 10))
            running = not running
        await asyncio.sleep(60)
        rows.append({"minute": len(rows) + 1, "server_mb": memory(), "pages": len(viewers.pages)})
        rows[-1]["errors"] = len(viewers.errors)
        print(*(f"{name} {value:.0f}" for name, value in rows[-1].items()), *viewers.errors[-1:], flush=True)
        pd.DataFrame(rows).round(1).to_csv(csv, index=False)
    gone.set()
    await asyncio.gather(*crowd)
    warm = pd.DataFrame(rows)["server_mb"].iloc[min(10, int(minutes / 3)) :]
    before, after = warm.head(5).mean(), warm.tail(5).mean()
    print(f"server: {before:.1f} MB after the warm-up, {after:.1f} at the end ({after / before - 1:+.1%})")


async def draw_picture(address: str, browser: Browser) -> None:
    """The explorer as the README shows it: digit 3, round 50, with and without injection."""
    page, _ = await open_explorer(await browser.new_context(viewport={"width": 1280, "height": 900}), address)
    await page.get_by_label("beside it").select_option("without injection")
    await page.get_by_role("slider", name="round").last.fill("14")
    await page.locator(".fl-gan-second canvas").last.wait_for()
    await page.locator("#explorer .fl-gan").click(position={"x": 5, "y": 5})  # takes the focus off the slider
    await page.locator("#explorer .fl-gan").screenshot(path=ROOT / "img" / "explorer.png")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    latency = commands.add_parser("latency", help="from a click to the picture")
    latency.add_argument("--steps", type=int, default=200)
    load = commands.add_parser("load", help="a large class, while an attack trains")
    load.add_argument("--number", type=int, default=300)
    load.add_argument("--within", type=float, default=60, help="seconds in which they arrive")
    load.add_argument("--rounds", type=int, default=30, help="over which the attack's pace is taken")
    load.add_argument("--tabs", type=int, default=10, help="of a real browser, afterwards")
    soak = commands.add_parser("soak", help="viewers who come and go for an hour")
    soak.add_argument("--minutes", type=float, default=60)
    soak.add_argument("--number", type=int, default=100)
    soak.add_argument("--csv", type=Path, default=ROOT / "notebooks" / "runs" / "soak.csv")
    commands.add_parser("picture", help="img/explorer.png")
    options = vars(parser.parse_args())
    measures = {"latency": measure_latency, "load": measure_load, "soak": measure_soak, "picture": draw_picture}
    measure = measures[options.pop("command")]
    with serve(DEMO, ROOT) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
            await measure(address, browser, **options)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
