"""The runner: what it changes in a notebook, what it finds, what it says when a cell fails."""
import re
import sys

import pytest
from lecturekit import LECTURES

for name in ("nbclient", "nbconvert", "nbformat", "ipykernel", "numpy", "PIL"):
    pytest.importorskip(name, reason=f"running notebooks needs {name}: "
                                     "pip install -e '.[lectures]'")

import lecture_data  # noqa: E402
import nbformat  # noqa: E402
import run_lectures  # noqa: E402

ENGINE = "import cfutures as futures"
SIZE = 'SIZE = "lecture"'
CLOSING = """
from lecture_tools import Lab
lab = Lab(futures)
lab.compare("a row", lambda futures: 1, lambda: 1, ideal=2, show=False, enough=0)
lab.closing_table()
"""


@pytest.fixture
def lectures(tmp_path, monkeypatch):
    """lectures(name, *cells) writes a notebook into an empty folder of lectures."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(run_lectures, "HERE", folder)
    monkeypatch.setattr(lecture_data, "make", lambda size: None)
    # The kernel starts in that folder, so what is not there has to be on its path.
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))

    def write(name, *cells, size=SIZE):
        new = nbformat.v4.new_code_cell
        nbformat.write(nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_markdown_cell(f"# About {name}"),
            new(ENGINE, id="engine", metadata={"tags": ["engine"]}),
            new(size, id="size", metadata={"tags": ["size"]}),
            *(new(cell.strip(), id=f"cell{n}") for n, cell in enumerate(cells))]),
            folder / f"{name}.ipynb")

    return write


def run(tmp_path, monkeypatch, *arguments):
    """The runner's exit status; its pages go to tmp_path/out."""
    monkeypatch.setattr(sys, "argv", ["run_lectures.py", "--out", str(tmp_path / "out"),
                                      *arguments])
    return run_lectures.main()


def test_runs_on_the_chosen_engine_and_size_and_leaves_pages(
        lectures, tmp_path, monkeypatch, capsys):
    lectures("01_good", "print('runs on', futures.__name__, SIZE)", CLOSING)
    assert run(tmp_path, monkeypatch, "--engine", "stdlib") == 0
    page = (tmp_path / "out" / "stdlib" / "01_good.html").read_text(encoding="utf-8")
    assert "runs on concurrent.futures small" in page
    assert not re.search(r"<script[^>]+src=.https?:", page), "it needs the internet"
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "About 01_good" in index and "1 of 1 runs without an error" in index
    for link in re.findall(r"href='([^'#]+)", index):
        assert (tmp_path / "out" / link).is_file(), link
    said = capsys.readouterr().out
    assert re.search(r"01_good +stdlib +4 +\S+ +ok", said) and "a row" in said
    # The notebook itself is as it was.
    assert SIZE in (tmp_path / "notebooks" / "01_good.ipynb").read_text().replace('\\"', '"')


def test_a_failing_cell_fails_the_command_and_is_shown(lectures, tmp_path, monkeypatch, capsys):
    lectures("01_bad", "surely = 'harmless'", "1 / 0  # here", "print('never comes here')")
    lectures("02_good", CLOSING)
    assert run(tmp_path, monkeypatch, "--engine", "stdlib") == 1
    said = capsys.readouterr()
    assert "1 / 0  # here" in said.err and "ZeroDivisionError" in said.err
    assert re.search(r"01_bad +stdlib .*failed", said.out)
    assert re.search(r"02_good +stdlib .*ok", said.out), "one that fails must not stop others"
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "1 of 2 runs without an error" in index and "ZeroDivisionError" in index
    path, anchor = re.search(r"href='([^'#]+)#([^']+)'", index).groups()
    assert anchor == "cell-id=cell1"
    assert f'id="{anchor}"' in (tmp_path / "out" / path).read_text(encoding="utf-8")


def test_a_kernel_that_dies_is_a_failure_that_names_the_cell(
        lectures, tmp_path, monkeypatch, capsys):
    lectures("01_dies", "import os\nos._exit(3)")
    assert run(tmp_path, monkeypatch, "--engine", "stdlib") == 1
    assert "DeadKernelError" in capsys.readouterr().err
    assert "#cell-id=cell0'" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_twice_runs_each_cell_two_times(lectures, tmp_path, monkeypatch):
    lectures("01_counts", f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n"
                          "    log.write('x')", CLOSING)
    assert run(tmp_path, monkeypatch, "--engine", "stdlib", "--twice") == 0
    assert (tmp_path / "log").read_text() == "xx"


def test_a_notebook_without_a_closing_table_or_a_switch_fails(
        lectures, tmp_path, monkeypatch, capsys):
    lectures("01_open", "pass")
    lectures("02_no_size", CLOSING, size="HOW_MUCH = 3")
    assert run(tmp_path, monkeypatch, "--engine", "stdlib") == 1
    said = capsys.readouterr().err
    assert "the notebook has no closing table" in said
    assert "02_no_size.ipynb: want one cell tagged 'size' with one line like" in said


def test_data_that_cannot_be_made_are_one_sentence(lectures, tmp_path, monkeypatch, capsys):
    def make(size):
        raise lecture_data.DataError("do this and that")

    lectures("01_good", CLOSING)
    monkeypatch.setattr(lecture_data, "make", make)
    assert run(tmp_path, monkeypatch, "--engine", "stdlib") == 1
    assert capsys.readouterr().err == "do this and that\n"


def test_no_such_notebook_is_a_usage_error(lectures, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, monkeypatch, "--only", "99")
    assert "no notebook begins with '99'" in capsys.readouterr().err


@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_a_lecture_is_committed_without_outputs_and_for_reading(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    run_lectures.prepare(path, "stdlib", "small")       # has both switches
    first = "import lecture_kernel       # says what to do if this kernel lacks something"
    assert code[0].source.splitlines() == [first, ENGINE]
    assert code[1].source == SIZE
