"""What a person sees in JupyterLab: reprs in both themes, progress, the stop button, and a
whole lecture.  Pictures are left in build/screenshots/."""
import re
import shutil

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
labkit = pytest.importorskip("labkit", reason="nbformat is not installed")

SETUP = """
import os, tempfile, time
import cfutures
folder = tempfile.TemporaryDirectory()
go = os.path.join(folder.name, "go")
def hang(n=0):
    while not os.path.exists(go):
        time.sleep(0.01)
    return n
def add(a, b=1):
    return a + b
def parse(text):
    if not text.isdigit():
        raise ValueError(f"not a number: {text!r}")
    return int(text)
"""

# The contrast of each text in the boxes with what is behind it, as in the accessibility
# guidelines: colours and opacities of all that lies on top of each other are mixed.
CONTRAST = """root => {
    const parse = text => {
        const n = text.match(/[\\d.]+/g).map(Number);
        return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
    };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const luminance = rgb => {
        const [r, g, b] = rgb.map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();) {
        if (!node.textContent.trim() || !node.parentElement.getClientRects().length) continue;
        const chain = [];
        for (let e = node.parentElement; e; e = e.parentElement) chain.unshift(e);
        let behind = [255, 255, 255], opacity = 1;
        for (const e of chain) {
            const style = getComputedStyle(e);
            behind = over(parse(style.backgroundColor), behind);
            opacity *= Number(style.opacity);
        }
        const colour = parse(getComputedStyle(node.parentElement).color);
        colour[3] *= opacity;
        const [a, b] = [luminance(over(colour, behind)), luminance(behind)];
        found.push([node.textContent.trim(),
                    (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
    }
    return found;
}"""


def least_contrast(output):
    """(contrast, text) of the text that is hardest to read."""
    found = [pair for shown in output.locator(".jp-RenderedHTMLCommon").all()
             for pair in shown.evaluate(CONTRAST)]
    assert found
    return min((contrast, text) for text, contrast in found)


REPRS = [
    SETUP,
    """
pool = cfutures.ThreadPoolExecutor(2, thread_name_prefix="cook")
futures = [pool.submit(parse, text) for text in ("12", "twelve")]
cfutures.wait(futures)
futures += [pool.submit(hang) for _ in range(4)]
futures[-1].cancel()
while not futures[3].running():
    time.sleep(0.01)
for future in futures:
    display(future)
""",
    "pool",
    """
with cfutures.ProcessPoolExecutor(2, on_crash="replace") as processes:
    there = [processes.submit(parse, text) for text in ("7", "seven")]
    lost = processes.submit(os._exit, 3)
    cfutures.wait([*there, lost])
    for future in (*there, lost):
        display(future)
    display(processes)
""",
    "%load_ext cfutures",
    "%cfutures",
    "open(go, 'w').close()\npool.shutdown()\npool",
]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_reprs_can_be_read_in_both_themes(open_notebook, theme):
    notebook = open_notebook(f"reprs-{theme.lower()}.ipynb", REPRS)
    notebook.theme(f"JupyterLab {theme}")
    notebook.run_all()
    states = notebook.output(1).locator(".cfutures-future")
    assert states.count() == 6
    for number, word in enumerate(
            ["finished", "failed", "running", "running", "pending", "cancelled"]):
        assert word in states.nth(number).inner_text()
    assert "parse()" in states.nth(0).inner_text() and "cook_" in states.nth(0).inner_text()
    assert re.search("running 2", notebook.output(2).inner_text())
    assert re.search("failed 1", notebook.output(2).inner_text())

    # The traceback is folded until somebody asks.
    error = notebook.output(3).locator("details").first
    assert not error.locator("pre").is_visible()
    error.locator("summary").click()
    assert error.locator("pre").is_visible()
    assert "in parse" in error.locator("pre").inner_text()
    assert "process " in notebook.output(3).inner_text()
    assert "WorkerCrashed" in notebook.output(3).inner_text()

    assert notebook.output(5).locator(".cfutures-executor").count() >= 1
    assert "shut down" in notebook.output(6).inner_text()
    for number in (1, 2, 3, 5, 6):
        contrast, text = least_contrast(notebook.output(number))
        # What the guidelines ask of text of this size.
        assert contrast >= 4.5, f"{text!r} is hard to read"
        notebook.screenshot(f"reprs-{theme.lower()}-{number}", number)
    notebook.screenshot(f"reprs-{theme.lower()}")


PROGRESS = [
    SETUP,
    """
pool = cfutures.{pool}(2)
tasks = [pool.submit(add, n) for n in range(6)] + [pool.submit(parse, "six")]
tasks += [pool.submit(hang, n) for n in range(3)]
seen = [future for future in cfutures.progress(tasks, desc="cooking")]
print("seen", len(seen))
""",
    "print(sum(pool.map(add, range(50), progress='adding')))",
    "pool.shutdown()",
]


@pytest.mark.parametrize("shown", ["tqdm", "html"])
@pytest.mark.parametrize("pool", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_progress_counts_what_has_ended(open_notebook, lab, pool, shown):
    cells = [cell.replace("{pool}", pool) for cell in PROGRESS]
    gate = lab.root / f"go-{pool}-{shown}"
    cells[0] += f"go = {str(gate)!r}\n"
    if shown == "html":
        cells[0] += "import sys\nsys.modules['tqdm.auto'] = None\n"
    notebook = open_notebook(f"progress-{pool}-{shown}.ipynb", cells)
    notebook.run(0)
    notebook.start(1)
    output = notebook.output(1)
    # The loop has handed out all that ended; the bar goes on while it waits.
    output.get_by_text(re.compile(r"7/10.*1\s+failed", re.S)).first.wait_for()
    notebook.screenshot(f"progress-{pool}-{shown}-half", 1)
    assert "seen" not in output.inner_text()
    gate.touch()
    output.get_by_text("seen 10").wait_for()
    output.get_by_text(re.compile(r"10/10.*1\s+failed", re.S)).first.wait_for()
    assert "cooking" in output.inner_text()
    notebook.screenshot(f"progress-{pool}-{shown}-done", 1)
    notebook.run(2)
    notebook.output(2).get_by_text(str(sum(range(51)))).wait_for()
    assert re.search(r"adding.*50/50", notebook.output(2).inner_text(), re.S)
    notebook.run(3)


@pytest.mark.parametrize("pool", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_the_stop_button_ends_a_wait_and_the_pool_goes_on(open_notebook, lab, pool):
    gate = lab.root / f"go-stop-{pool}"
    notebook = open_notebook(f"stop-{pool}.ipynb", [
        SETUP + f"go = {str(gate)!r}\npool = cfutures.{pool}(2)",
        "print('waiting')\nlist(pool.map(hang, range(4)))",
        "print('waiting')\nwith cfutures.progress([pool.submit(hang)]) as bar:\n"
        "    for future in bar: future.result()",
        "open(go, 'w').close()\nprint(sum(pool.map(add, range(10))))",
        "pool.shutdown()",
    ])
    notebook.run(0)
    for number in (1, 2):
        notebook.start(number)
        notebook.output(number).get_by_text("waiting").wait_for()
        notebook.stop()
        notebook.output(number).get_by_text("KeyboardInterrupt").first.wait_for()
        notebook.wait_until_run(number)
    notebook.screenshot(f"stop-{pool}")
    notebook.run(3)
    notebook.output(3).get_by_text("55").wait_for()
    notebook.run(4)


def test_a_whole_lecture(open_notebook, lab):
    folder = lab.root / "lectures"
    shutil.copytree(
        labkit.REPOSITORY / "notebooks", folder,
        ignore=shutil.ignore_patterns("data", "out", "__pycache__", ".ipynb_checkpoints"))
    path = folder / "01_futures.ipynb"
    lecture = nbformat.read(path, as_version=4)
    changed = 0
    for cell in lecture.cells:
        if "size" in cell.metadata.get("tags", []):
            cell.source, changed = re.subn(r'(?m)^SIZE = ".*"$', 'SIZE = "small"', cell.source)
    assert changed == 1
    nbformat.write(lecture, path)
    notebook = open_notebook("lectures/01_futures.ipynb")
    notebook.run_all()
    cells = notebook.panel.locator(".jp-CodeCell")
    for number in range(cells.count()):
        errors = notebook.output(number).locator(
            '[data-mime-type="application/vnd.jupyter.error"]')
        assert errors.count() == 0, errors.first.inner_text()
        if cells.nth(number).locator(".cm-content").inner_text().strip():
            notebook.wait_until_run(number)
    notebook.screenshot("lecture-01")
    last = notebook.output(cells.count() - 1)
    last.scroll_into_view_if_needed()
    notebook.screenshot("lecture-01-end")


def test_reprs_can_be_read_in_an_exported_page(lab, browser):
    """A page of nbconvert has neither JupyterLab's style sheet nor a kernel."""
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed")
    lab.write("exported.ipynb", REPRS)
    notebook = nbformat.read(lab.root / "exported.ipynb", as_version=4)
    client.NotebookClient(notebook, kernel_name="python3").execute()
    # The browser is offline: what the page would fetch are formulas and the like.
    html, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(notebook)
    page = browser.new_page(viewport={"width": 700, "height": 900})
    try:
        page.set_content(f"<body style='background:white;color:black'>{html}</body>")
        assert page.locator(".cfutures-future").count() == 9
        assert page.locator(".cfutures-executor").count() >= 3
        error = page.locator("details").last
        assert not error.locator("pre").is_visible()
        error.locator("summary").click()
        assert error.locator("pre").is_visible()
        for shown in page.locator(".cfutures-future, .cfutures-executor").all():
            for text, contrast in shown.evaluate(CONTRAST):
                assert contrast >= 4.5, f"{text!r} is hard to read"
        # Nothing sticks out of a narrow page.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        labkit.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=labkit.SCREENSHOTS / "reprs-exported.png", full_page=True)
    finally:
        page.close()
