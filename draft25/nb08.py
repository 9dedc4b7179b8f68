"""Builds notebooks/08_a_class_is_a_person.ipynb; the exercises are written by `make exercises`."""
import hashlib
from pathlib import Path
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELLS = []
def md(text): CELLS.append(("md", text.strip("\n"), {}))
def code(text, tags=None, alt=None):
    meta = {}
    if alt: meta["mystnb"] = {"image": {"alt": alt}}
    if tags: meta["tags"] = tags
    CELLS.append(("code", text.strip("\n"), meta))

exec(Path("nb08_cells.py").read_text())

path = Path("notebooks/08_a_class_is_a_person.ipynb")
cells, seen = [], set()
for kind, text, meta in CELLS:
    cell_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert cell_id not in seen; seen.add(cell_id)
    make = new_markdown_cell if kind == "md" else new_code_cell
    cell = make(text, id=cell_id); cell.metadata.update(meta); cells.append(cell)
other = nbformat.read("notebooks/06_defences.ipynb", 4)
nb = new_notebook(cells=cells, metadata=other.metadata)
path.write_text(nbformat.writes(nb) + "\n")
import re
words = sum(len(re.findall(r"\S+", t)) for k, t, _ in CELLS if k == "md")
print(len(cells), "cells", words, "words")
