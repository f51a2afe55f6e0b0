"""Every block of Python in the guides and the README runs, and prints what the page says."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guide import Block, read, run

PROJECT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("guide.py")
GUIDES = ("threads-or-processes", "notebooks", "arrays", "crashes", "asyncio", "moving")
PAGES = [page for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
         if "```python" in page.read_text(encoding="utf-8")]
# Modules without which a page is not run.
NEEDS = {"arrays": ("numpy",)}
# What the reader of a page has, and who runs it has not.
READERS = {"README": "paths = ['a', 'bc']; parse = len"}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, tmp_path):
    for module in NEEDS.get(page.stem, ()):
        pytest.importorskip(module, reason=f"the page uses {module}")
    copy = tmp_path / page.name
    text = page.read_text(encoding="utf-8")
    copy.write_text(f"<!-- before: {READERS[page.stem]} -->{text}" if page.stem in READERS
                    else text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(RUNNER), str(copy)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("all blocks were run\n")
    assert "Exception ignored" not in done.stderr, done.stderr


def test_the_guides_are_there():
    assert {page.stem for page in PAGES} >= set(GUIDES)


# ---- the runner ----

PAGE = """\
<!-- before:
files = ["a"]
-->
```python
print(files)
```
```text
['a']
```
Text.

<!-- not run: it needs a person to press a button -->
```python
raise SystemExit
```
```sh
make
```
```python
1 / 0
```
"""


def test_the_runner_reads_blocks_outputs_and_reasons():
    before, first, left_out, last = read(PAGE)
    assert before.source == 'files = ["a"]' and before.line == 1
    assert first == Block(4, "print(files)\n", "['a']\n", None)
    assert left_out.reason.startswith("it needs a person")
    assert last.reason is None and last.output is None


def test_the_runner_tells_what_is_wrong():
    namespace = {}
    before, first, _, last = read(PAGE)
    run("page.md", before, namespace)
    run("page.md", first, namespace)
    with pytest.raises(AssertionError, match=r"page.md, line 5 prints\n\['a'\]\nnot\nb\n"):
        run("page.md", first._replace(output="b\n"), namespace)
    with pytest.raises(ZeroDivisionError) as caught:
        run("page.md", last, namespace)
    where = caught.traceback[-1]
    assert str(where.path).endswith("page.md") and where.lineno + 1 == 20
