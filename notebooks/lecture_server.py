"""A web server on this computer that is slow, fails and limits, as real ones do.

`start()` runs it in a process of its own, on a free port, and returns a `Server`.  It
stands for the weather service and the web pages of the lectures (lecture_site.py says
what is there), so that nothing needs the internet and nobody's server is bothered; the
requests are real ones.  It ends with `stop()`, with the `Server` object, and at once
when the process that started it is gone, however that ended.

    python notebooks/lecture_server.py --port 8000 --delay 0.2 --failures 0.3
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import http.server
import json
import math
import os
import select
import shlex
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections import Counter
from dataclasses import asdict, dataclass
from types import TracebackType

import lecture_site

HOST = "127.0.0.1"
START_LIMIT = 60.0      # seconds for the new process to say that it serves


class ServerError(Exception):
    """The server could not be started; the text says what to do."""


@dataclass(frozen=True)
class Manners:
    """How the server treats its visitors.

    delay: seconds until it answers, on average; each address has its own, from half of
        that to one and a half times that.
    failures: the share of addresses, 0 to 1, that fail first, once or twice: with status
        500, with 503 and a Retry-After, or by a dropped connection.  After that the
        address answers once, and begins anew.
    retry_after: whole seconds that a 503 asks to wait.
    rate: requests served per second; what comes beyond gets status 429 and a Retry-After.
        A pause saves up one second's worth.  None: no limit.
    seed: decides all of it; also what the site tells.
    """

    delay: float = 0.05
    failures: float = 0.0
    retry_after: int = 1
    rate: float | None = None
    seed: int = lecture_site.SEED

    def __post_init__(self) -> None:
        if self.delay < 0 or self.retry_after < 0:
            raise ValueError("delay and retry_after must not be negative")
        if not 0 <= self.failures <= 1:
            raise ValueError(f"failures is a share from 0 to 1, not {self.failures}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0, or None for no limit, not {self.rate}")

    def _chance(self, about: str, path: str) -> float:
        """A number from 0 to 1 that only the seed and the address decide."""
        digest = hashlib.sha256(f"{self.seed} {about} {path}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def delay_of(self, path: str) -> float:
        """Seconds until this address answers."""
        return self.delay * (0.5 + self._chance("delay", path))

    def faults_of(self, path: str) -> list[str]:
        """What goes wrong with this address before it answers: "500", "503", "drop"."""
        if self._chance("fails", path) >= self.failures:
            return []
        kinds = ("500", "503", "drop")
        return [kinds[int(3 * self._chance(f"kind {n}", path))]
                for n in range(1 + int(2 * self._chance("times", path)))]


class _Visits:
    """What was asked so far; every method may be called from any thread."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._lock = threading.Lock()
        self._failed: Counter[str] = Counter()      # in a row, by address
        self._outcomes: Counter[str] = Counter()
        self._now = self._most = 0
        self._most_saved = max(1.0, manners.rate or 0.0)
        self._saved, self._counted = self._most_saved, time.monotonic()

    def enter(self) -> None:
        """A request has come."""
        with self._lock:
            self._now += 1
            self._most = max(self._most, self._now)

    def leave(self, outcome: str) -> None:
        """It was answered, or not; outcome is a status or a word."""
        with self._lock:
            self._now -= 1
            self._outcomes[outcome] += 1

    def lost(self, outcome: str) -> None:
        """An answer that was counted found nobody: its visitor is gone."""
        with self._lock:
            self._outcomes[outcome] -= 1
            self._outcomes["gone"] += 1

    def too_early(self) -> float:
        """Seconds until the next request may be served; 0: this one is."""
        rate = self._manners.rate
        if rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._saved = min(self._most_saved, self._saved + rate * (now - self._counted))
            self._counted = now
            if self._saved < 1:
                return (1 - self._saved) / rate
            self._saved -= 1
            return 0.0

    def next_fault(self, path: str) -> str | None:
        """What goes wrong with this address this time; None: it answers."""
        faults = self._manners.faults_of(path)
        with self._lock:
            turn = self._failed[path]
            if turn < len(faults):
                self._failed[path] += 1
                return faults[turn]
            del self._failed[path]
            return None

    def counts(self) -> dict[str, object]:
        """For /stats: how many requests ended how, and how many there were at once."""
        with self._lock:
            return {"requests": sum(self._outcomes.values()), "most_at_once": self._most,
                    "outcomes": dict(sorted((+self._outcomes).items()))}


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True           # who still waits for an answer does not hold up the end
    request_queue_size = 128        # so many may knock at once

    def __init__(self, port: int, manners: Manners) -> None:
        self.manners, self.visits = manners, _Visits(manners)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"   # a connection serves many requests
    wbufsize = 1 << 20              # an answer leaves in one piece, when it is flushed
    disable_nagle_algorithm = True  # and at once
    server: _Listener

    def do_GET(self) -> None:
        if self.path == "/stats":
            counts = json.dumps(self.server.visits.counts())
            self._send(200, "application/json", counts.encode())
            return
        visits = self.server.visits
        visits.enter()
        outcome = self._serve()
        # Counted first: who has the answer and looks at /stats then finds it there.
        visits.leave(outcome)
        try:
            self.wfile.flush()
        except ConnectionError:
            visits.lost(outcome)
            self.close_connection = True

    def _serve(self) -> str:
        """Write the answer, or fail as planned; return what became of the request."""
        early = self.server.visits.too_early()
        if early > 0:
            return self._refuse(429, "too many requests", math.ceil(early))
        time.sleep(self.server.manners.delay_of(self.path))
        match self.server.visits.next_fault(self.path):
            case "drop":
                self.close_connection = True
                return "dropped"
            case "503":
                return self._refuse(503, "overloaded", self.server.manners.retry_after)
            case "500":
                return self._refuse(500, "something broke here", None)
        path = self.path.partition("?")[0]
        return self._send(*lecture_site.answer(path, self.server.manners.seed))

    def _refuse(self, status: int, reason: str, retry_after: int | None) -> str:
        extra = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return self._send(status, "application/json",
                          json.dumps({"error": reason}).encode(), extra)

    def _send(self, status: int, kind: str, body: bytes,
              extra: dict[str, str] | None = None) -> str:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)),
                            **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        return str(status)

    def log_message(self, format: str, *args: object) -> None:
        """Write no line a request; /stats has the counts."""


class Server:
    """A running server: `url`, `pid`, `manners`; `stop()` or a `with` block ends it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, manners: Manners) -> None:
        self.url, self.pid, self.manners = url, process.pid, manners
        self._stop = weakref.finalize(self, _end, process, os.getpid())

    def stats(self) -> dict[str, object]:
        """Requests so far, by outcome (a status, "dropped" or "gone"), and most at once."""
        # Not by way of a proxy, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/stats", timeout=START_LIMIT) as reply:
            return json.load(reply)

    def stop(self) -> None:
        """End the server; a second call does nothing."""
        self._stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 where: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._stop.alive else "stopped"
        return f"<lecture server {self.url} {state}>"


def start(port: int = 0, *, delay: float = 0.05, failures: float = 0.0, retry_after: int = 1,
          rate: float | None = None, seed: int = lecture_site.SEED) -> Server:
    """Start a server in a process of its own and return when it serves; see Manners.

    port 0 takes a free one.  Programs of this process, and those it starts, are told not
    to use a proxy for this computer's own address.  Raises ServerError if the port is
    taken or the process does not start, ValueError for manners that make no sense.
    """
    manners = Manners(delay, failures, retry_after, rate, seed)
    command = [sys.executable, os.path.abspath(__file__), "--port", str(port),
               "--parent", str(os.getpid()), "--manners", json.dumps(asdict(manners))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = b""
    if select.select([process.stdout], [], [], START_LIMIT)[0]:
        said = process.stdout.readline()
    try:
        url = json.loads(said)["url"]
    except (ValueError, KeyError):
        raise ServerError(_why(process, said)) from None
    _no_proxy_for(HOST)
    return Server(process, url, manners)


def _why(process: subprocess.Popen[bytes], said: bytes) -> str:
    """Why it does not serve, in one sentence; the process is ended."""
    try:
        code = process.wait(START_LIMIT if said else 1)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    _close_pipes(process)
    try:
        return json.loads(said)["error"]
    except (ValueError, KeyError):
        return (f"the lecture server did not start (exit code {code}): "
                f"run {shlex.join(map(str, process.args[:2]))} to see why")


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Stop the process and wait for its end.  A forked copy of the owner leaves it alone."""
    if os.getpid() == owner:
        process.kill()              # it keeps nothing that would have to be saved
        process.wait()
        _close_pipes(process)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    process.stdin.close()
    process.stdout.close()


def _no_proxy_for(host: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        if host not in known and "*" not in known:
            os.environ[name] = ",".join([*known, host])


def _stop_without(parent: int, server: _Listener) -> None:
    """Wait until the parent is gone, then stop serving.  Runs in a thread."""
    waiting = [sys.stdin.fileno()]      # its end, too, says that the parent is gone,
    if hasattr(os, "pidfd_open"):       # unless a child that was forked there keeps it open
        try:
            waiting.append(os.pidfd_open(parent))
        except ProcessLookupError:
            waiting = []
    if waiting:
        select.select(waiting, [], [])
    server.shutdown()


def _listen(port: int, manners: Manners) -> _Listener:
    """A bound server; raises ServerError with a sentence if the port cannot be had."""
    try:
        return _Listener(port, manners)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ServerError(f"port {port} is used by another program: stop that one, choose "
                              "another port, or give none to get a free one") from None
        raise ServerError(f"cannot serve on port {port} ({error}): choose another port, "
                          "or give none to get a free one") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--delay", type=float, default=Manners.delay, metavar="SECONDS")
    parser.add_argument("--failures", type=float, default=Manners.failures, metavar="SHARE")
    parser.add_argument("--rate", type=float, default=Manners.rate, metavar="PER_SECOND")
    parser.add_argument("--seed", type=int, default=Manners.seed)
    # How start() talks to it.
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--manners", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        manners = Manners(**args.manners) if args.manners else Manners(
            delay=args.delay, failures=args.failures, rate=args.rate, seed=args.seed)
        server = _listen(args.port, manners)
    except (ServerError, ValueError) as error:
        if args.parent is None:
            print(error, file=sys.stderr)
        else:
            print(json.dumps({"error": str(error)}), flush=True)
        return 1
    try:
        if args.parent is None:
            print(f"{server.url}/ (Ctrl-C ends it)", flush=True)
        else:
            # The stop button of a notebook interrupts all processes of the kernel.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(json.dumps({"url": server.url}), flush=True)
            threading.Thread(target=_stop_without, args=(args.parent, server),
                             daemon=True).start()
        server.serve_forever()
    except KeyboardInterrupt:
        pass                            # that is how one ends it by hand
    return 0


if __name__ == "__main__":
    sys.exit(main())
