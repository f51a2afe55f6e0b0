"""What tasks print arrives where the user looks.

On a terminal, in a file or in a pipe the workers write to the parent's descriptors 1 and
2; all that is done is to write by the line.  Where the parent's sys.stdout is something
else (a notebook's stream, a StringIO), the workers' text goes through a pipe, one a pool,
to a thread of the parent that writes it to whatever sys.stdout is by then:

    task: print --> sys.stdout (Frames) ===pipe===> OutputThread --> parent's sys.stdout
                    worker number, stream, bytes    whole lines of each worker

A frame is at most PIPE_BUF bytes, so a write is all or nothing and frames of different
workers never mix.  The thread reads whatever happens, so that a worker which prints a
lot waits for the thread and for nobody else.

A line that is not complete is shown when its worker has nothing to do (it says so by an
empty frame), when it holds a carriage return (progress bars), or at the end.
"""
from __future__ import annotations

import codecs
import contextlib
import contextvars
import io
import os
import select
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures._base import LOGGER

__all__ = ["Output", "OutputThread", "flush", "prepare_worker", "redirected_streams"]

STREAMS = {"stdout": 1, "stderr": 2}    # names in sys, and their descriptors

_HEAD = struct.Struct("<HBxHxxI")       # mark, stream, length, worker
_MARK = 0xCF07
_ROOM = select.PIPE_BUF - _HEAD.size
_END = 0                                # as stream: nothing comes after this frame


def redirected_streams() -> tuple[str, ...]:
    """Which of sys.stdout and sys.stderr do not write to descriptors 1 and 2."""
    return tuple(name for name, fd in STREAMS.items() if not _writes_to(name, fd))


def _writes_to(name: str, fd: int) -> bool:
    stream = getattr(sys, name)
    if stream is None:
        return True     # nothing to redirect to
    try:
        own = stream.fileno()
        return own == fd or os.path.sameopenfile(own, fd)
    except (AttributeError, OSError, ValueError):
        return False


# ---- in a worker ----


class Frames(io.RawIOBase):
    """The bytes of a worker's stream, on their way through the pool's pipe."""

    def __init__(self, fd: int, name: str, number: int) -> None:
        self._fd = fd
        self._stream = STREAMS[name]
        self._number = number
        self._open_line = False

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor that programs started by tasks may write to."""
        return self._stream

    def write(self, data: object, /) -> int:
        """Send all of it."""
        with memoryview(data).cast("B") as view:    # type: ignore[arg-type]
            for at in range(0, len(view), _ROOM):
                self._send(bytes(view[at:at + _ROOM]))
            if view:
                self._open_line = view[-1] != 0x0A
            return len(view)

    def settle(self) -> None:
        """Have an incomplete last line shown."""
        if self._open_line:
            self._open_line = False
            self._send(b"")

    def _send(self, data: bytes) -> None:
        os.write(self._fd, _HEAD.pack(_MARK, self._stream, len(data), self._number) + data)


_frames: list[Frames] = []      # this worker's; set once, before its first task


def prepare_worker(streams: tuple[str, ...], fd: int | None, number: int) -> None:
    """Make this worker's streams write by the line, those named to the pipe `fd`."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if name in streams and fd is not None:
            frames = Frames(fd, name, number)
            _frames.append(frames)
            setattr(sys, name, io.TextIOWrapper(
                io.BufferedWriter(frames), encoding="utf-8", errors="backslashreplace",
                newline="\n", line_buffering=True))
        elif isinstance(stream, io.TextIOWrapper):
            # Without write_through (PYTHONUNBUFFERED) print() would write a line in two
            # parts, between which other workers write theirs.
            stream.reconfigure(line_buffering=True, write_through=False)


def flush() -> None:
    """Write out what tasks have printed: this worker has nothing to do for now.

    Raises nothing: an output that cannot be written is the error of the task that prints
    (it has had it from its print()), not the end of the worker.
    """
    for stream in (sys.stdout, sys.stderr):
        # None, closed, without flush(), a pipe whose reader has gone.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    for frames in _frames:
        with contextlib.suppress(OSError):
            frames.settle()


# ---- in the parent ----


class Output:
    """The pipe of a pool whose parent's streams are not descriptors 1 and 2."""

    def __init__(self, streams: tuple[str, ...]) -> None:
        """`streams`: as redirected_streams() says.  Raises OSError: no descriptors."""
        self.streams = streams
        self.reader, self.writer = os.pipe()
        self._thread: OutputThread | None = None

    def start(self) -> None:
        """Begin to show; after the workers were forked."""
        if self._thread is None:
            self._thread = OutputThread(self.reader)
            self._thread.start()

    def finish(self) -> None:
        """Show what is in the pipe, all workers being dead, and free it."""
        if self._thread is not None:
            # Not the end of file: a process that a task left behind may hold the pipe.
            os.write(self.writer, _HEAD.pack(_MARK, _END, 0, 0))
            self._thread.join()
        os.close(self.writer)
        os.close(self.reader)


class OutputThread(threading.Thread):
    """Reads the pipe until the end is said, and shows whole lines."""

    def __init__(self, fd: int) -> None:
        super().__init__(name="cfutures-output", daemon=False)
        self._fd = fd
        self._lines: dict[tuple[int, int], _Lines] = {}
        self._complained = False

    def run(self) -> None:
        """See the class."""
        # A notebook's stream shows text under the cell of the context it is written in;
        # without one it is the cell that runs now, not the one that started the pool.
        contextvars.Context().run(self._read)

    def _read(self) -> None:
        data = bytearray()
        while more := os.read(self._fd, 1 << 16):
            data += more
            shown: dict[int, list[str]] = {}
            ended = False
            for stream, number, payload in _frames_of(data):
                if stream == _END:
                    ended = True
                    break
                text = self._lines_of(stream, number).add(payload)
                if text:
                    shown.setdefault(stream, []).append(text)
            for stream, texts in shown.items():
                self._show(stream, "".join(texts))
            if ended:
                break
        for (stream, _), lines in self._lines.items():
            self._show(stream, lines.rest())
        self._flush()

    def _lines_of(self, stream: int, number: int) -> _Lines:
        lines = self._lines.get((stream, number))
        if lines is None:
            lines = self._lines[stream, number] = _Lines()
        return lines

    def _show(self, fd: int, text: str) -> None:
        if not text:
            return
        stream = sys.stdout if fd == 1 else sys.stderr
        if stream is None:
            return
        try:
            stream.write(text)
        except Exception:
            # A stream of somebody else's, closed perhaps.  The text is not lost, and the
            # workers must not wait for a thread that has gone.
            if not self._complained:
                self._complained = True
                LOGGER.exception("cannot show what tasks print on %r", stream)
            _write_all(fd, text.encode("utf-8", "backslashreplace"))

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            # None, closed, without flush().
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()


class _Lines:
    """The text of one stream of one worker, in whole lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept: list[str] = []

    def add(self, data: bytes) -> str:
        """Take bytes (none: the worker settles) and give what is to be shown now."""
        if not data:
            return self.rest()
        text = self._decoder.decode(data)
        if "\r" in text:
            done, kept = text, ""
        else:
            head, newline, kept = text.rpartition("\n")
            done = head + newline
        if not done:
            self._kept.append(kept)
            return ""
        done = "".join(self._kept) + done
        self._kept = [kept] if kept else []
        return done

    def rest(self) -> str:
        """Give all that was kept."""
        text = "".join(self._kept)
        self._kept = []
        return text


def _frames_of(data: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Take the complete frames out of `data`: (stream, worker, bytes) each."""
    at = 0
    try:
        while len(data) - at >= _HEAD.size:
            mark, stream, length, number = _HEAD.unpack_from(data, at)
            if mark != _MARK or stream > 2 or length > _ROOM:
                # Somebody has written to our descriptor: show it, as it cannot be parsed.
                yield 1, 0, bytes(data[at:])
                at = len(data)
                return
            end = at + _HEAD.size + length
            if end > len(data):
                return
            yield stream, number, bytes(data[at + _HEAD.size:end])
            at = end
    finally:
        del data[:at]


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data):]
    except OSError:
        return      # descriptor 1 or 2 is closed as well: there is nowhere to show it
