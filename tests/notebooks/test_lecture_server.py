"""The lectures' web server: real requests, the same for everybody, and surely gone."""
import datetime
import gc
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import lecture_server
import lecture_site
import pytest
from testkit import GUARD

SCRIPT = Path(lecture_server.__file__)
DAYS = [f"/weather/{datetime.date(2024, 1, 1) + datetime.timedelta(days=n)}"
        for n in range(40)]


def get(server, path):
    """Status, headers and body; (None, {}, b"") for a dropped connection."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=GUARD)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    except http.client.RemoteDisconnected:
        return None, {}, b""
    finally:
        connection.close()


def port_of(server):
    return int(server.url.rpartition(":")[2])


def gone(pid):
    """Wait until a process is gone; false if it is not, in time."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], GUARD)[0])
    finally:
        os.close(watch)


@pytest.fixture
def server():
    with lecture_server.start(delay=0) as running:
        yield running


# --- what it tells ----------------------------------------------------------------------

def test_weather_is_a_record_a_day_and_temperatures_follow_the_season(server):
    status, headers, body = get(server, "/weather/2024-07-01")
    record = json.loads(body)
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert record["date"] == "2024-07-01"
    assert [hour["hour"] for hour in record["hours"]] == [*range(24)]

    def mean(month):
        days = [lecture_site.weather(datetime.date(2024, month, day)) for day in range(1, 29)]
        return sum(h["temperature"] for day in days for h in day["hours"]) / (28 * 24)

    assert mean(1) + 10 < mean(7)


def test_all_pages_can_be_reached_from_the_first_by_their_links(server):
    status, headers, body = get(server, "/pages/0")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert {int(n) for n in re.findall(rb'href="/pages/(\d+)"', body)} == {
        *lecture_site.links(0)}
    found, new = {0}, [0]
    while new:
        new = [n for page in new for n in lecture_site.links(page) if n not in found]
        found.update(new)
    assert found == {*range(lecture_site.PAGES)}


@pytest.mark.parametrize("path, said", [
    ("/weather/2025-01-01", b"from 2024-01-01 to 2024-12-31"),
    ("/weather/tomorrow", b"not a date like 2024-01-01: tomorrow"),
    (f"/pages/{lecture_site.PAGES}", b"There is no /pages/"), ("/<b>", b"&lt;b&gt;"),
])
def test_what_is_not_there_is_status_404_with_a_sentence(server, path, said):
    status, _, body = get(server, path)
    assert status == 404 and said in body


def test_same_seed_tells_the_same_another_seed_something_else(server):
    first = get(server, DAYS[0])[2]
    with lecture_server.start(delay=0) as same, lecture_server.start(delay=0, seed=1) as other:
        assert get(same, DAYS[0])[2] == first != get(other, DAYS[0])[2]


# --- how it treats visitors -------------------------------------------------------------

def test_an_address_fails_as_planned_then_answers_then_begins_anew():
    with lecture_server.start(delay=0, failures=0.5, retry_after=3) as server:
        planned = {path: server.manners.faults_of(path) for path in DAYS}
        assert {fault for faults in planned.values() for fault in faults} == {
            "500", "503", "drop"}
        for path in [*DAYS, *DAYS]:
            for fault in planned[path]:
                status, headers, _ = get(server, path)
                assert (str(status) if status else "drop") == fault
                assert headers.get("Retry-After") == ("3" if fault == "503" else None)
            assert get(server, path)[0] == 200
        outcomes = server.stats()["outcomes"]
    failed = [fault for faults in planned.values() for fault in faults]
    assert outcomes == {"200": 80, "500": 2 * failed.count("500"),
                        "503": 2 * failed.count("503"), "dropped": 2 * failed.count("drop")}


def test_failures_0_and_1_are_never_and_always():
    assert not any(lecture_server.Manners(failures=0).faults_of(path) for path in DAYS)
    assert all(lecture_server.Manners(failures=1).faults_of(path) for path in DAYS)


def test_delays_differ_by_address_around_the_given_mean():
    delays = [lecture_server.Manners(delay=2).delay_of(f"/{n}") for n in range(500)]
    assert 1 <= min(delays) < 1.1 and 2.9 < max(delays) <= 3
    assert 1.9 < sum(delays) / 500 < 2.1


def test_above_the_rate_it_is_status_429_with_the_time_to_wait():
    with lecture_server.start(delay=0, rate=0.01) as server:
        assert get(server, DAYS[0])[0] == 200
        status, headers, _ = get(server, DAYS[1])
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 100
        assert server.stats()["outcomes"] == {"200": 1, "429": 1}


def test_an_answer_is_counted_before_it_arrives(server):
    for number in range(1, 101):
        get(server, DAYS[0])
        assert server.stats()["requests"] == number


@pytest.mark.parametrize("manners", [
    {"delay": -1}, {"failures": 1.5}, {"failures": -0.1}, {"rate": 0}, {"retry_after": -1}])
def test_manners_that_make_no_sense_are_a_value_error(manners):
    with pytest.raises(ValueError, match=next(iter(manners))):
        lecture_server.start(**manners)


def test_requests_do_not_go_to_a_proxy(server):
    for name in ("no_proxy", "NO_PROXY"):
        assert lecture_server.HOST in os.environ[name].split(",")


# --- start and end ----------------------------------------------------------------------

def test_a_busy_port_gives_a_sentence_what_to_do(server):
    with pytest.raises(lecture_server.ServerError) as caught:
        lecture_server.start(port_of(server))
    assert re.fullmatch(r"port \d+ is used by another program: [^\n]+", str(caught.value))


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_does_not_exist_gives_a_sentence_what_to_do(port):
    said = f"cannot serve on port {port}.*choose another"
    with pytest.raises(lecture_server.ServerError, match=said):
        lecture_server.start(port)


def test_a_busy_port_by_hand_fails_with_the_same_sentence(server):
    done = subprocess.run([sys.executable, SCRIPT, "--port", str(port_of(server))],
                          capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"port \d+ is used by another program: [^\n]+\n", done.stderr)


def test_by_hand_it_says_its_address_and_ends_with_ctrl_c():
    process = subprocess.Popen([sys.executable, SCRIPT, "--delay", "0"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        url = re.match(r"(http://127\.0\.0\.1:(\d+))/", process.stdout.readline())
        with socket.create_connection(("127.0.0.1", int(url[2])), GUARD):
            pass
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=GUARD) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_stop_ends_the_process_frees_the_port_and_may_be_repeated():
    server = lecture_server.start(delay=0)
    assert repr(server).endswith("running>")
    server.stop()
    server.stop()
    assert repr(server).endswith("stopped>") and gone(server.pid)
    with lecture_server.start(port_of(server), delay=0) as again:
        assert port_of(again) == port_of(server)


def test_a_server_that_nobody_holds_ends():
    pid = lecture_server.start(delay=0).pid
    gc.collect()
    assert gone(pid)


def test_a_server_that_waits_with_an_answer_ends_at_once():
    server = lecture_server.start(delay=1000)
    with socket.create_connection(("127.0.0.1", port_of(server)), GUARD) as visitor:
        visitor.sendall(b"GET /pages/0 HTTP/1.1\r\nHost: here\r\n\r\n")
        server.stop()
    assert gone(server.pid)


def test_a_forked_copy_of_the_owner_leaves_the_server_alone(server):
    child = os.fork()
    if child == 0:
        try:
            server.stop()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert get(server, DAYS[0])[0] == 200


OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import lecture_server
server = lecture_server.start(delay=0)
child = 0
if sys.argv[2] == "with a child":
    child = os.fork()               # has the pipe to the server open, too
    if child == 0:
        time.sleep(600)
        os._exit(0)
print(server.pid, child, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("family", ["alone", "with a child"])
@pytest.mark.parametrize("end", ["killed", "exits"])
def test_it_ends_when_its_parent_is_gone(family, end):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, SCRIPT.parent, family], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server, child = map(int, owner.stdout.readline().split())
    try:
        if end == "killed":
            owner.kill()
        owner.stdin.close()
        owner.wait(GUARD)
        assert gone(server)
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
        owner.stdout.close()


def test_the_stop_button_does_not_end_it(server):
    """It interrupts every process of the kernel's group."""
    os.kill(server.pid, signal.SIGINT)
    assert get(server, DAYS[0])[0] == 200
