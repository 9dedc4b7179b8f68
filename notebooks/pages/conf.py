"""How Sphinx builds the site from notebooks/ (`make site`); nothing is executed.

REPOSITORY=owner/name, in the environment, adds links to edit a page, and to open a notebook in Colab.
"""

import json
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fl_gan_lib.explorer import page as explorer
from fl_gan_lib.records import load_records

NOTEBOOKS = Path(__file__).parents[1]
REPOSITORY = os.environ.get("REPOSITORY", "")
EXTRAS = {"06": "[defences]", "07": "[flower]", "08": "[faces]"}  # what some notebooks need besides the package
PUBLISHED = "gh-pages"  # the branch that site.yml publishes, with the copies for Colab

project = "Deep Models Under the GAN: a laboratory"
author = "The contributors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",  # a file that keeps GitHub from hiding _static
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["runs"]
templates_path = ["templates"]
default_role = "code"  # docstrings mark code as Markdown does
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "fully-qualified"
python_use_unqualified_type_names = True  # and shown without their modules
napoleon_use_ivar = True  # attributes as a short list
highlight_language = "text"

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, str] = {}  # two scripts from another host; the explorer brings its own
nb_output_stderr = "remove"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = "Deep Models Under the GAN"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_sourcelink_suffix = ""  # a downloaded notebook ends in .ipynb, not in .txt
html_use_index = html_domain_indices = False  # the API is one page
html_show_copyright = html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": f"https://github.com/{REPOSITORY}",
        "repository_branch": "main",
        "path_to_docs": "notebooks",
        "use_repository_button": True,
        "use_edit_page_button": True,
    }


class Explorer(SphinxDirective):
    """The explorer with the recorded attacks: the same piece of HTML that notebook 04 leaves in its output."""

    def run(self) -> list[nodes.Node]:
        runs = NOTEBOOKS / "runs"
        records = load_records(runs)
        if not records:
            raise self.error(f"there are no records in {runs}: make some with `make records`")
        for path in (*explorer.HERE.glob("*.*s"), *runs.glob("attack_*.npz")):
            self.env.note_dependency(str(path))
        more = '<p><a href="explorer/index.html">All recorded runs, as a page of their own</a></p>'
        return [nodes.raw("", explorer.standalone_page(records) + more, format="html")]


def add_colab_button(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put "open in Colab" into the header of each notebook's page."""
    if (NOTEBOOKS / f"{page}.ipynb").exists() and "header_buttons" in context:
        button = {
            "type": "link",
            "url": f"https://colab.research.google.com/github/{REPOSITORY}/blob/{PUBLISHED}/colab/{page}.ipynb",
            "tooltip": "Open in Colab",
            "icon": "fas fa-rocket",
            "label": "open-in-colab",
        }
        context["header_buttons"].append(button)


def write_colab_copies(app: Sphinx, error: Exception | None) -> None:
    """Copies of the notebooks that can be opened in Colab, to the branch that is published."""
    if error:
        return
    for page in app.env.found_docs:
        path = NOTEBOOKS / f"{page}.ipynb"
        if path.exists():
            copy = Path(app.outdir) / "colab" / f"{page}.ipynb"
            copy.parent.mkdir(parents=True, exist_ok=True)
            notebook = json.loads(path.read_text(encoding="utf-8"))
            copy.write_text(json.dumps(for_colab(notebook, f"{page}.ipynb")), encoding="utf-8")


def for_colab(notebook: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A notebook without outputs that begins with the installation, and goes to where the recorded runs are.

    Links to other notebooks and pages lead to the site, those to other files to the repository.
    """
    owner, _, name = REPOSITORY.partition("/")
    extra = EXTRAS.get(posixpath.basename(place)[:2], "")
    words = "*This is a copy for Colab. The next cell installs the laboratory, which takes some minutes. Run it first.*"
    install = [
        "import os\n",
        "import sys\n",
        "\n",
        "if not os.path.exists('/content/laboratory'):\n",
        f"    !git clone --quiet --depth 1 https://github.com/{REPOSITORY} /content/laboratory\n",
        "%cd /content/laboratory/notebooks\n",
        f"%pip install --quiet --editable ..{extra}\n",
        "sys.path.insert(0, '/content/laboratory')  # this kernel started before the installation",
    ]
    cells = [{"cell_type": "markdown", "id": "colab", "metadata": {}, "source": [words]}]
    cells += [{"cell_type": "code", "id": "install", "metadata": {}, "source": install}]
    cells += [dict(cell) for cell in notebook["cells"]]

    def elsewhere(link: re.Match[str]) -> str:
        path, suffix = posixpath.splitext(
            posixpath.normpath(posixpath.join("notebooks", posixpath.dirname(place), link[1]))
        )
        if suffix in (".ipynb", ".md"):
            return f"](https://{owner}.github.io/{name}/{path.removeprefix('notebooks/')}.html{link[2]})"
        return f"](https://github.com/{REPOSITORY}/blob/main/{path}{suffix})"

    for cell in cells:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        else:
            cell["source"] = re.sub(r"\]\((?![a-z]+:)([\w./-]+)(#[\w-]+|)\)", elsewhere, "".join(cell["source"]))
    return {**notebook, "cells": cells}


def write_explorer(app: Sphinx, error: Exception | None) -> None:
    """The page with all recorded runs, beside the site's own."""
    if not error:
        runs = NOTEBOOKS / "runs"
        explorer.write_page(explorer.load_runs(runs), Path(app.outdir) / "explorer", people=explorer.load_people(runs))


def setup(app: Sphinx) -> None:
    app.add_directive("explorer", Explorer)
    app.connect("build-finished", write_explorer)
    if REPOSITORY:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", REPOSITORY):
            raise ValueError(f"REPOSITORY is {REPOSITORY!r}: it must be owner/name, as on GitHub")
        app.connect("html-page-context", add_colab_button, priority=501)  # after the theme has begun its list
        app.connect("build-finished", write_colab_copies)
