"""Puts the implementation in place in every interpreter of a conformance run.

Found by way of PYTHONPATH, so also in spawn and forkserver children and in the
scripts that CPython's tests start.
"""
import os
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))

try:
    import _suite_inject  # noqa: F401
except Exception:
    traceback.print_exc()


def _run_hidden_sitecustomize() -> None:
    """Run the sitecustomize that this one hides, if there is one."""
    for folder in sys.path:
        if os.path.abspath(folder or ".") == HERE:
            continue
        file = os.path.join(folder, "sitecustomize.py")
        if not os.path.isfile(file):
            continue
        try:
            with open(file, encoding="utf-8") as source:
                code = compile(source.read(), file, "exec")
            exec(code, {"__name__": "sitecustomize", "__file__": file})
        except Exception:
            traceback.print_exc()
        return


_run_hidden_sitecustomize()
