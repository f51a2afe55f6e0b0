"""A JupyterLab of its own, and a browser to look at it with."""
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
from testkit import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
#: Milliseconds after which something that takes a second or two is called hung.
SLOW = 60_000

_SETTINGS = {
    # All cells are in the page, not only those that can be seen.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def free_port():
    """A port that nobody listened on a moment ago."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Lab:
    """A server that knows nothing of the user's settings; its notebooks are in `root`."""

    def __init__(self, folder):
        self.root = folder / "notebooks"
        self.root.mkdir()
        self._log = folder / "lab.log"
        self._token = secrets.token_hex(16)
        self._address = f"http://127.0.0.1:{free_port()}"
        settings = folder / "settings"
        for name, values in _SETTINGS.items():
            file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        environment = os.environ | {
            "HOME": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        }
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                 "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0",
                 f"--ServerApp.port={self._address.rpartition(':')[2]}",
                 f"--ServerApp.root_dir={self.root}",
                 f"--IdentityProvider.token={self._token}",
                 "--LabApp.expose_app_in_browser=True"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)

    def wait_until_ready(self):
        """Return when it answers; AssertionError with its log if it does not."""
        def answers():
            if self._server.poll() is not None:
                return True
            try:
                with urllib.request.urlopen(self.url("api/status"), timeout=10):
                    return True
            except OSError:
                return False
        assert eventually(answers, 120) and self._server.poll() is None, self._log.read_text()

    def url(self, path):
        """The address of a page or of the API."""
        return f"{self._address}/{path}?token={self._token}"

    def write(self, name, cells):
        """Make a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3",
                                     "language": "python"}})
        nbformat.write(notebook, self.root / name)

    def close(self):
        """End the server and its kernels."""
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(30)


class Notebook:
    """An open notebook, as a person sees it."""

    def __init__(self, lab, page, name):
        self.page = page
        # A workspace of its own, or the notebooks that were open before come back.
        page.goto(lab.url(f"lab/workspaces/{Path(name).stem}/tree/{name}"))
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell",
                               timeout=SLOW)
        page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.status === 'idle'", timeout=SLOW)
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def _command(self, name, arguments=None):
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args)",
            [name, arguments or {}])

    def cell(self, number):
        """The code cell of that number, from 0."""
        return self.panel.locator(".jp-CodeCell").nth(number)

    def output(self, number):
        """The output of that cell."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def run_all(self):
        """Run every cell and wait for the last one, or for one that fails."""
        self._command("notebook:run-all-cells")
        last = self.panel.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
        self.page.wait_for_function(
            """element => /\\[\\d+\\]/.test(element.textContent)
               || element.closest(".jp-Notebook").querySelector(
                   '[data-mime-type="application/vnd.jupyter.stderr"] .ansi-red-fg,'
                   + '[data-mime-type="application/vnd.jupyter.error"]')""",
            arg=last.element_handle(), timeout=4 * SLOW)

    def start(self, number):
        """Run one cell, as Ctrl-Enter does, and do not wait for it."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def run(self, number):
        """Run one cell, and wait until it has run."""
        self.start(number)
        self.wait_until_run(number)

    def wait_until_run(self, number):
        """Wait until the prompt of that cell has a number."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        self.page.wait_for_function(
            "element => /\\[\\d+\\]/.test(element.textContent)",
            arg=prompt.element_handle(), timeout=SLOW)

    def stop(self):
        """Press the stop button."""
        self.panel.locator('.jp-Toolbar [data-command="notebook:interrupt-kernel"], '
                           '.jp-Toolbar [title^="Interrupt the kernel"]').first.click()

    def theme(self, name):
        """Choose "JupyterLab Light" or "JupyterLab Dark"."""
        self._command("apputils:change-theme", {"theme": name})
        light = str(name.endswith("Light")).lower()
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached",
                                    timeout=SLOW)

    def screenshot(self, name, number=None):
        """Keep a picture of the page, or of one cell's output."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        shown = self.page if number is None else self.output(number)
        shown.screenshot(path=SCREENSHOTS / f"{name}.png")
