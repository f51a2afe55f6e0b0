"""The tests in this folder need a browser: `make test-browser`, or pytest --browser PATH."""
import shutil

import pytest


def pytest_collection_modifyitems(config, items):
    if config.getoption("--browser"):
        return
    here = config.rootpath / "tests" / "browser"
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.skip(reason="no browser was given: --browser"))


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    """Nothing to look for: pools are in the kernels, and playwright has threads of its own."""


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab that runs."""
    from labkit import Lab

    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.wait_until_ready()
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def browser(request):
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which(request.config.getoption("--browser"))
    assert path, f"there is no {request.config.getoption('--browser')}"
    with sync_playwright() as playwright:
        # Without a sandbox it runs for root and in containers as well.
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab, browser):
    """Open a notebook with these cells, or one that is there, in a window of its own."""
    from labkit import SLOW, Notebook

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(SLOW)

    def make(name, cells=None):
        if cells is not None:
            lab.write(name, cells)
        return Notebook(lab, context.new_page(), name)

    yield make
    context.close()
