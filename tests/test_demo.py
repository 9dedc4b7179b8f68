import sys

import nbformat
import pytest
from nbformat import v4

from fl_gan_lib.__main__ import main
from fl_gan_lib.demo import _keep_pictures, serve_demo


def test_static_cells_become_their_pictures_and_the_others_stay():
    picture = v4.new_output("execute_result", {"image/png": "iVBO\nRw0K"})
    static = v4.new_code_cell("plot()", metadata={"tags": ["static"]}, outputs=[picture])
    other = v4.new_code_cell("print(1)")
    shown = _keep_pictures(None, notebook=v4.new_notebook(cells=[static, other]), cwd="")
    assert shown.cells[0].cell_type == "markdown" and "data:image/png;base64,iVBORw0K" in shown.cells[0].source
    assert shown.cells[1] == other
    nbformat.validate(shown)


def test_a_missing_notebook_is_named():
    with pytest.raises(FileNotFoundError, match=r"no notebook at nowhere.ipynb: name the one to show"):
        serve_demo("nowhere.ipynb")


def test_the_command_listens_on_this_machine_alone_unless_told_otherwise(monkeypatch):
    served = {}
    monkeypatch.setattr("fl_gan_lib.demo.serve_demo", lambda notebook, **options: served.update(options))
    monkeypatch.setattr(sys, "argv", ["fl_gan_lib", "demo", "--no-browser"])
    main()
    assert served == {"ip": "127.0.0.1", "port": 8866, "open_browser": False}
