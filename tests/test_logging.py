"""What is logged to "concurrent.futures", word for word."""
import logging

import pytest
from testkit import GUARD, boom


def the_record(caplog):
    (record,) = caplog.records
    assert record.name == "concurrent.futures"
    return record


@pytest.mark.parametrize("when", ["before", "after"])
def test_exception_in_a_callback(cf, caplog, when):
    future = cf.Future()

    def callback(f):
        boom("in a callback")

    if when == "before":
        future.add_done_callback(callback)
        future.set_result(1)
    else:
        future.set_result(1)
        future.add_done_callback(callback)
    record = the_record(caplog)
    assert record.levelno == logging.ERROR
    assert record.msg == "exception calling callback for %r"
    assert record.getMessage() == f"exception calling callback for {future!r}"
    kind, error, trace = record.exc_info
    assert kind is ValueError and str(error) == "in a callback"
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_code is boom.__code__


def test_exception_in_a_callback_of_cancel(cf, caplog):
    future = cf.Future()
    future.add_done_callback(lambda f: boom())
    assert future.cancel() is True
    assert the_record(caplog).getMessage() == f"exception calling callback for {future!r}"


def test_exception_in_a_callback_of_a_task(cf, pool, gate, caplog):
    go = gate()
    executor = pool(1)
    future = executor.submit(go.wait, GUARD)
    future.add_done_callback(lambda f: boom())
    go.set()
    executor.submit(int).result(GUARD)
    record = the_record(caplog)
    assert record.levelno == logging.ERROR
    assert record.threadName.startswith("ThreadPoolExecutor-")


def test_every_failing_callback_is_logged(cf, caplog):
    future = cf.Future()
    for text in "abc":
        future.add_done_callback(lambda f, t=text: boom(t))
    future.set_result(0)
    assert [str(r.exc_info[1]) for r in caplog.records] == ["a", "b", "c"]


@pytest.mark.parametrize("callback", [None, 5, "text"])
def test_callback_that_is_no_callable(cf, caplog, callback):
    future = cf.Future()
    future.add_done_callback(callback)
    future.set_result(0)
    assert the_record(caplog).exc_info[0] is TypeError


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"])
def test_set_running_in_an_unexpected_state(cf, unsettled, caplog, state):
    future = getattr(unsettled, state)
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    record = the_record(caplog)
    assert record.levelno == logging.CRITICAL
    assert record.msg == "Future %s in unexpected state: %s"
    assert record.getMessage() == f"Future {id(future)} in unexpected state: {state}"


def test_exception_in_an_initializer(cf, pool, caplog):
    executor = pool(1, initializer=boom, initargs=("initial",))
    assert executor.submit(int).exception(GUARD) is not None
    executor.shutdown()
    record = the_record(caplog)
    assert record.levelno == logging.CRITICAL
    assert record.getMessage() == "Exception in initializer:"
    kind, error, _ = record.exc_info
    assert kind is ValueError and str(error) == "initial"
    assert record.threadName.endswith("_0")


def test_a_logger_that_fails_harms_nobody(cf, monkeypatch):
    """A filter that raises: the exception goes where the standard library lets it go."""
    logger = logging.getLogger("concurrent.futures")

    def refuse(record):
        raise LookupError("filter")

    logger.addFilter(refuse)
    try:
        future = cf.Future()
        future.add_done_callback(lambda f: boom())
        with pytest.raises(LookupError):
            future.set_result(1)
        assert future.result(0) == 1
    finally:
        logger.removeFilter(refuse)


def test_nothing_is_logged_when_nothing_is_wrong(cf, pool, caplog):
    caplog.set_level(logging.DEBUG, logger="concurrent.futures")
    executor = pool(2)
    executor.submit(boom).exception(GUARD)
    executor.submit(int).add_done_callback(lambda f: None)
    executor.shutdown()
    assert caplog.records == []


def test_logger_replaced_in_base_is_used(cf, monkeypatch):
    """Programs silence or watch `_base.LOGGER`."""
    records = []
    logger = logging.Logger("mine")
    logger.addFilter(records.append)
    monkeypatch.setattr(cf._base, "LOGGER", logger)
    future = cf.Future()
    future.add_done_callback(lambda f: boom())
    future.set_result(1)
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    assert [r.levelname for r in records] == ["ERROR", "CRITICAL"]
