"""How fast the explorer answers, and how many viewers one laptop can bear: `python tests/browser/measure.py --help`."""

import argparse
import asyncio
import json
import re
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from conftest import DEMO, FLAGS, find_browser, serve
from playwright.async_api import BrowserContext, Page, async_playwright

ROOT = Path(__file__).parents[2]
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


async def open_explorer(context: BrowserContext, address: str, errors: list[str]) -> tuple[Page, float]:
    """A page with the explorer, and the seconds until it can be used."""
    page = await context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    # Thirty of Voila's spinners at a time would keep this machine busy, and viewers have machines of their own.
    await (await context.new_cdp_session(page)).send("Animation.setPlaybackRate", {"playbackRate": 0})
    start = time.monotonic()
    await page.goto(address, timeout=120_000)
    await page.wait_for_selector(".fl-gan[data-ready=true]", timeout=120_000)
    return page, time.monotonic() - start


async def measure_latency(address: str, context: BrowserContext, *, steps: int) -> None:
    """Click digits and step the slider, alone and with a second run beside it."""
    page, _ = await open_explorer(context, address, [])
    await page.locator(".fl-gan").evaluate(WATCH)
    rows = {}
    for beside in ("nothing", "oracle"):
        await page.get_by_label("beside it").select_option(beside)
        await page.evaluate("window.delays.length = 0")
        for step in range(steps):
            await page.get_by_role("radio", name=f"class {step % 10}").click()
        await page.wait_for_timeout(200)
        clicks = await page.evaluate("window.delays.splice(0)")
        await page.get_by_role("slider", name="round").focus()
        for step in range(steps):
            await page.keyboard.press("ArrowRight" if step // 20 % 2 else "ArrowLeft")
            await page.wait_for_timeout(30)  # as fast as a key that is held down repeats
        await page.wait_for_timeout(200)
        keys = await page.evaluate("window.delays.splice(0)")
        rows |= {(beside, "click on a digit"): clicks, (beside, "step of the slider"): keys}
    table = pd.DataFrame(
        {key: [len(one), np.median(one), np.percentile(one, 95), max(one)] for key, one in rows.items()},
        index=["number", "median, ms", "95th percentile, ms", "maximum, ms"],
    )
    print(table.T.rename_axis(["beside", "event"]).round(1).to_string())


async def measure_viewers(address: str, context: BrowserContext, *, number: int, within: float) -> None:
    """Let viewers arrive evenly; each picks digits and slides until half a minute after the last one set out."""
    errors: list[str] = []
    arrivals: list[float] = []
    end = time.monotonic() + within + 30

    async def view(place: int) -> None:
        await asyncio.sleep(place * within / max(number - 1, 1))
        page, seconds = await open_explorer(context, address, errors)
        arrivals.append(seconds)
        print(f"viewer {place + 1}: {seconds:.1f} s", flush=True)
        random = np.random.default_rng(place)
        while time.monotonic() < end:
            digit = random.integers(10)
            await page.get_by_role("radio", name=f"class {digit}").check()
            await page.get_by_role("slider", name="round").fill(str(random.integers(20)))
            if f"class {digit}:" not in await page.locator(".fl-gan section p").first.inner_text():
                errors.append(f"viewer {place + 1} does not see digit {digit}")
            await asyncio.sleep(10)

    results = await asyncio.gather(*map(view, range(number)), return_exceptions=True)
    errors += [repr(result) for result in results if result is not None]
    server, *kernels = [process.memory_info().rss / 1e9 for process in server_processes()]
    print(f"{len(arrivals)} of {number} viewers saw the page; errors: {len(errors)} {errors[:3]}")
    print("time to a usable page: median {:.1f} s, 95th percentile {:.1f} s".format(*np.percentile(arrivals, [50, 95])))
    print(
        f"resident memory: {server + sum(kernels):.2f} GB, of which the server {server:.2f}, and each of "
        f"{len(kernels)} kernels at most {max(kernels):.3f}"
    )


async def measure_soak(address: str, context: BrowserContext, *, minutes: float, number: int, csv: Path) -> None:
    """Let viewers click, and one more come and go; each minute, what the server and the viewers' kernels need."""
    errors: list[str] = []
    stay: dict[int, str] = {}
    frees: list[float] = []
    door = asyncio.Semaphore(1)  # ten browsers with empty caches at a time are a matter of `viewers`
    start = time.monotonic()
    end = start + 60 * minutes

    async def view(place: int, until: float) -> str:
        try:
            return await click(place, until)
        except Exception as error:
            errors.append(f"viewer {place}: {error!r}")
            return ""

    async def click(place: int, until: float) -> str:
        """A viewer with a browser of their own; the first one starts a live attack each quarter of an hour."""
        own = await context.browser.new_context(viewport={"width": 1280, "height": 900})
        async with door:
            page, _ = await open_explorer(own, address, errors)
        page.set_default_timeout(120_000)
        note_errors(page, errors)
        kernel = json.loads(await page.locator("#jupyter-config-data").text_content())["kernelId"]
        stay.setdefault(place, kernel)
        beside = page.get_by_label("beside it")
        names = (await beside.locator("option").all_text_contents())[1:9]
        begin, stop = (page.get_by_role("button", name=name) for name in ("Start a live attack", "Stop"))
        random, change = np.random.default_rng(place), time.monotonic() + 60
        while time.monotonic() < until:
            digit = random.integers(10)
            await page.get_by_role("radio", name=f"class {digit}").check()
            if random.random() < 0.2:
                await beside.select_option(str(random.choice(names)))
            if place > 0:
                await page.get_by_role("slider", name="round").fill(str(random.integers(20)))
                if f"class {digit}:" not in await page.locator(".fl-gan section p").first.inner_text():
                    errors.append(f"viewer {place} does not see digit {digit}")
            elif time.monotonic() > change:
                running = await stop.is_enabled()
                await (stop if running else begin).click()
                change += 810 if running else 90
            await asyncio.sleep(5)
        await own.close()
        return kernel

    async def come_and_go() -> None:
        while time.monotonic() < end:
            kernel = await view(number, min(time.monotonic() + min(180, 15 * minutes), end))
            left = time.monotonic()
            while kernel in kernel_processes():
                await asyncio.sleep(1)
            frees.append(time.monotonic() - left)

    async def sample() -> None:
        rows = []
        while time.monotonic() < end:
            server, kernels = server_processes()[0], kernel_processes()
            ten = [kernels[stay[place]] for place in range(number) if stay.get(place) in kernels]
            row = {"minute": round((time.monotonic() - start) / 60), "server_mb": server.memory_full_info().uss / 1e6}
            row |= {"kernels_mb": sum(kernel.memory_full_info().uss for kernel in ten) / 1e6, "staying": len(ten)}
            row |= {"kernels": len(kernels), "open_files": server.num_fds(), "errors": len(errors)}
            rows.append(row)
            print("  ".join(f"{name} {value:.0f}" for name, value in row.items()), *errors[-3:], flush=True)
            pd.DataFrame(rows).round(1).to_csv(csv, index=False)
            await asyncio.sleep(60)

    await asyncio.gather(*(view(place, end) for place in range(number)), come_and_go(), sample())
    table = pd.read_csv(csv)
    warm = table[table["minute"] >= min(10, minutes / 3)]
    assert (warm["staying"] == number).all(), "a viewer who stayed has lost their kernel"
    first, last = (part[["server_mb", "kernels_mb"]].mean() for part in (warm.head(5), warm.tail(5)))
    print(f"errors: {len(errors)} {sorted(set(errors))[:5]}")
    for name, before, after in [*zip(first.index, first, last, strict=True), ("together", first.sum(), last.sum())]:
        print(f"{name}: {before:.1f} MB after the warm-up, {after:.1f} at the end ({after / before - 1:+.1%})")
    print(f"{len(frees)} who left: their kernels had ended after {max(frees, default=0):.0f} s at most")


def note_errors(page: Page, errors: list[str]) -> None:
    """Everything that the page's console or network says went wrong, but for icons that the page does not need."""
    needed = lambda text: "cdn.jsdelivr.net" not in text  # noqa: E731
    page.on("console", lambda line: line.type == "error" and needed(line.text) and errors.append(line.text))
    page.on("requestfailed", lambda request: needed(request.url) and errors.append(f"{request.url}: failed"))
    page.on("response", lambda answer: answer.status >= 400 and errors.append(f"{answer.url}: {answer.status}"))


def kernel_processes() -> dict[str, psutil.Process]:
    """By the id of the kernel, which is in the name of its connection file."""
    found = ((re.search(r"kernel-([\w-]+)\.json", " ".join(one.cmdline())), one) for one in server_processes())
    return {name[1]: one for name, one in found if name}


def server_processes() -> list[psutil.Process]:
    """The server that `serve` started, and its kernels."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if {"fl_gan_lib", "ipykernel_launcher"} & set(process.cmdline()):
                found.append(process)
    return found


async def draw_picture(address: str, context: BrowserContext) -> None:
    """The explorer as the README shows it: digit 3, round 50, with and without injection."""
    page, _ = await open_explorer(context, address, [])
    await page.get_by_label("beside it").select_option("without injection")
    await page.get_by_role("slider", name="round").fill("14")
    await page.locator(".fl-gan-second canvas").last.wait_for()  # the second run comes from the kernel
    await page.locator(".fl-gan").click(position={"x": 5, "y": 5})  # takes the focus off the slider
    await page.locator(".fl-gan").screenshot(path=ROOT / "img" / "explorer.png")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    latency = commands.add_parser("latency", help="from a click to the picture")
    latency.add_argument("--steps", type=int, default=200)
    viewers = commands.add_parser("viewers", help="many viewers of one demo")
    viewers.add_argument("--number", type=int, default=30)
    viewers.add_argument("--within", type=float, default=60, help="seconds in which they arrive")
    soak = commands.add_parser("soak", help="ten viewers click for an hour, and one comes and goes: memory, errors")
    soak.add_argument("--minutes", type=float, default=60)
    soak.add_argument("--number", type=int, default=10)
    soak.add_argument("--csv", type=Path, default=ROOT / "notebooks" / "runs" / "soak.csv")
    commands.add_parser("picture", help="img/explorer.png")
    options = vars(parser.parse_args())
    measures = {"latency": measure_latency, "viewers": measure_viewers, "soak": measure_soak, "picture": draw_picture}
    measure = measures[options.pop("command")]
    with serve(DEMO, ROOT) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
            context = await browser.new_context(viewport={"width": 1280, "height": 900})
            await measure(address, context, **options)


if __name__ == "__main__":
    asyncio.run(main())
