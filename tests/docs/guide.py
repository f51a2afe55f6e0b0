"""Runs the ```python blocks of a page as one program: python guide.py page.md

The blocks share a namespace, which is the module __main__, so that every start method of
processes works.  Tracebacks name the page and its lines.  A block may use `await`, as a
notebook's cell may.

What a block prints is compared with the ```text block that follows it, if one does.  A
block after the comment <!-- not run: reason --> is left out; the comment
<!-- before: code --> is code that the page needs and a reader does not (files, say).
"""
import ast
import asyncio
import contextlib
import inspect
import io
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

COMMENT = re.compile(r"<!-- (not run|before):\s*(.*?)\s*-->", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$\n?", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code.

    line: where it begins in the page, from 0.  output: what it is to print, or None.
    reason: why it is not run, or None.
    """

    line: int
    source: str
    output: str | None = None
    reason: str | None = None


def read(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    blocks: list[Block] = []
    at, reason = 0, None
    for found in re.finditer(f"{COMMENT.pattern}|{FENCE.pattern}", page,
                             re.DOTALL | re.MULTILINE):
        what, comment, language, source = found.groups()
        between, at = page[at:found.start()].strip(), found.end()
        if what == "not run":
            assert len(comment) > 10, f"no reason: {found.group()}"
            reason = comment
        elif what == "before":
            blocks.append(Block(page.count("\n", 0, found.start(2)), comment))
        elif language == "python":
            blocks.append(Block(page.count("\n", 0, found.start(4)), source, None, reason))
            reason = None
        elif language == "text" and not between and blocks:
            blocks[-1] = blocks[-1]._replace(output=source)
        else:
            reason = None
    return blocks


def run(name: str, block: Block, namespace: dict[str, object]) -> None:
    """Run a block; AssertionError if it prints something else than it should."""
    code = compile("\n" * block.line + block.source, name, "exec",
                   flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    shown = io.StringIO() if block.output is not None else None
    with contextlib.redirect_stdout(shown or sys.stdout):
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    if shown is not None:
        assert shown.getvalue() == block.output, (
            f"{name}, line {block.line + 1} prints\n{shown.getvalue()}not\n{block.output}")


def run_page(file: Path) -> None:
    """Run all of it, in a __main__ that has no names yet."""
    main = types.ModuleType("__main__")
    main.__file__ = __file__        # a spawned process imports it, and finds nothing to do
    sys.modules["__main__"] = main
    for block in read(file.read_text(encoding="utf-8")):
        if block.reason is None:
            run(file.name, block, vars(main))
    print("all blocks were run")


if __name__ == "__main__":
    this = sys.modules["__main__"]
    run_page(Path(sys.argv[1]))
