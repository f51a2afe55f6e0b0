"""Every lecture runs on cfutures from its first cell to its last, at the small size.

`make lectures` runs them on the standard library as well.
"""
from pathlib import Path

import pytest
from lecturekit import LECTURES

for name in ("nbclient", "nbconvert", "nbformat", "ipykernel", "matplotlib", "numpy", "pandas",
             "PIL", "requests", "tables", "tqdm"):
    pytest.importorskip(name, reason=f"the lectures need {name}: "
                                     "pip install -e '.[lectures]'")

import lecture_data  # noqa: E402
import run_lectures  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the data of the small size, made once for all of them."""
    folder = tmp_path_factory.mktemp("data")
    lecture_data.make("small", folder)
    return folder


@pytest.mark.timeout(900)       # half a minute each, on a machine that does nothing else
@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_lecture(path: Path, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LECTURE_DATA", str(data))
    result = run_lectures.run(path, "cfutures", "small", tmp_path, times=1)
    assert not result.error, result.error
