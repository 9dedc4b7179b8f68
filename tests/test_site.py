"""The site: its links lead somewhere, it asks no other host for anything, and it offers each notebook."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(
    path.relative_to(ROOT / "notebooks")
    for folder in ("notebooks", "notebooks/solutions")
    for path in ROOT.glob(f"{folder}/0*.ipynb")
)


class Page(HTMLParser):
    """What a page links to, what it loads when it is opened, and the places in it that a link can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loads += [values[name] for name in ("src", "srcset", "data", "poster") if name in values]
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "search", "index"):
            self.loads.append(values.get("href", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def target_of(page: Path, link: str) -> Path:
    """The file that a link on a page leads to."""
    path = unquote(urlsplit(link).path)
    return (page.parent / path).resolve() if path else page


def is_local(link: str) -> bool:
    return not urlsplit(link).scheme and not link.startswith("//")


def test_every_link_leads_to_a_file_and_to_a_place_in_it(site: Path, pages: dict[Path, Page]):
    assert len(pages) > 15
    wrong = []
    for path, page in pages.items():
        for link in filter(is_local, page.links + page.loads):
            target = target_of(path, link)
            place = unquote(urlsplit(link).fragment)
            if not target.is_file() or (target in pages and place not in pages[target].anchors):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Page]):
    loads = {load for page in pages.values() for load in page.loads}
    assert any(load.endswith(".png") for load in loads), "the pictures in the notebooks"
    assert not [load for load in loads if not is_local(load) and not load.startswith("data:")]
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert "@font-face" in styles and not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", styles)


@pytest.mark.parametrize("name", NOTEBOOKS, ids=str)
def test_each_notebook_can_be_downloaded_edited_and_opened_in_colab(site: Path, pages: dict[Path, Page], name: Path):
    path = site / name.with_suffix(".html")
    links = pages[path].links
    download = next(link for link in links if link.endswith(".ipynb") and "_sources" in link)
    assert target_of(path, download).read_bytes() == (ROOT / "notebooks" / name).read_bytes()
    assert f"https://github.com/someone/laboratory/edit/main/notebooks/{name}" in links
    colab = "https://colab.research.google.com/github/someone/laboratory/blob/gh-pages/colab"
    assert f"{colab}/{name}" in links
    copy = json.loads((site / "colab" / name).read_text("utf-8"))
    _, install, *rest = copy["cells"]
    assert "https://github.com/someone/laboratory" in "".join(install["source"])
    assert any(line.startswith("%pip install") for line in install["source"])
    original = json.loads((ROOT / "notebooks" / name).read_text("utf-8"))
    code, same = (
        [cell["source"] for cell in cells if cell["cell_type"] == "code"] for cells in (rest, original["cells"])
    )
    assert code == same
    words = "".join("".join(cell["source"]) for cell in rest if cell["cell_type"] == "markdown")
    linked = re.findall(r"\]\(([^)#]+)", words)
    assert not [link for link in linked if is_local(link)]
    for home, folder in (("someone.github.io/laboratory/", site), ("someone/laboratory/blob/main/", ROOT)):
        assert not [link for link in linked if home in link and not (folder / link.partition(home)[2]).exists()]
    assert not any(cell.get("outputs") for cell in copy["cells"])


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 1500
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links and not [link for link in links if is_local(link) and not (ROOT / link).exists()]
