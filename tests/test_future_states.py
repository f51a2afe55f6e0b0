"""The states of a future and who may move it where."""
import pytest
from testkit import STATES, stdlib_from


def look(future):
    """What a future says of its state, by the three public questions."""
    return future.running(), future.cancelled(), future.done()


SEEN = {
    "PENDING": (False, False, False),
    "RUNNING": (True, False, False),
    "CANCELLED": (False, True, True),
    "CANCELLED_AND_NOTIFIED": (False, True, True),
    "FINISHED": (False, False, True),
}


@pytest.mark.parametrize("state", STATES)
def test_state_is_told_by_running_cancelled_and_done(unsettled, state):
    assert look(getattr(unsettled, state)) == SEEN[state]


@pytest.mark.parametrize("state, answer, after", [
    ("PENDING", True, "CANCELLED"),
    ("RUNNING", False, "RUNNING"),
    ("CANCELLED", True, "CANCELLED"),
    ("CANCELLED_AND_NOTIFIED", True, "CANCELLED_AND_NOTIFIED"),
    ("FINISHED", False, "FINISHED"),
])
def test_cancel_in_each_state(unsettled, state, answer, after):
    future = getattr(unsettled, state)
    assert future.cancel() is answer
    assert look(future) == SEEN[after]
    assert future._state == after


@pytest.mark.parametrize("state, answer", [("PENDING", True), ("CANCELLED", False)])
def test_set_running_or_notify_cancel_answers_whether_to_run(unsettled, state, answer):
    assert getattr(unsettled, state).set_running_or_notify_cancel() is answer


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"])
def test_second_set_running_is_an_error(unsettled, state):
    future = getattr(unsettled, state)
    with pytest.raises(RuntimeError, match=r"^Future in unexpected state$"):
        future.set_running_or_notify_cancel()
    assert look(future) == SEEN[state]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_set_result_finishes(unsettled, state):
    future = getattr(unsettled, state)
    value = object()
    assert future.set_result(value) is None
    assert look(future) == SEEN["FINISHED"]
    assert future.result() is value
    assert future.result(timeout=0) is value
    assert future.exception() is None


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_set_exception_finishes(unsettled, state):
    future = getattr(unsettled, state)
    error = OSError("no")
    assert future.set_exception(error) is None
    assert look(future) == SEEN["FINISHED"]
    assert future.exception() is error
    assert future.exception(timeout=0) is error
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            future.result()
        assert caught.value is error


@pytest.mark.parametrize("state", ["CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"])
@pytest.mark.parametrize("setter", ["set_result", "set_exception"])
def test_settling_twice_is_an_invalid_state(cf, unsettled, state, setter):
    future = getattr(unsettled, state)
    with pytest.raises(cf.InvalidStateError) as caught:
        getattr(future, setter)(ValueError("late"))
    assert str(caught.value) == f"{state}: {future!r}"
    assert look(future) == SEEN[state]


@pytest.mark.parametrize("state", ["CANCELLED", "CANCELLED_AND_NOTIFIED"])
@pytest.mark.parametrize("question", ["result", "exception"])
def test_cancelled_future_raises_cancelled_error(cf, unsettled, state, question):
    with pytest.raises(cf.CancelledError) as caught:
        getattr(getattr(unsettled, state), question)()
    assert caught.value.args == ()


def test_result_reraises_the_same_object_with_a_growing_traceback(cf):
    future = cf.Future()
    try:
        raise KeyError("k")
    except KeyError as error:
        future.set_exception(error)
        first = error.__traceback__
    with pytest.raises(KeyError) as caught:
        future.result()
    last = caught.tb
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame is first.tb_frame


def test_base_exceptions_are_stored_too(cf):
    for error in (KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        future = cf.Future()
        future.set_exception(error)
        assert future.exception() is error
        with pytest.raises(type(error)):
            future.result()


def test_an_exception_class_is_raised_as_an_instance(cf):
    future = cf.Future()
    future.set_exception(ValueError)
    assert future.exception() is ValueError
    with pytest.raises(ValueError):
        future.result()


def test_an_exception_that_is_none_means_a_result_of_none(cf):
    future = cf.Future()
    future.set_exception(None)
    assert future.exception() is None
    assert future.result() is None
    assert future.done()


def test_an_exception_that_is_no_exception_fails_when_raised(cf):
    future = cf.Future()
    future.set_exception("text")
    assert future.exception() == "text"
    with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
        future.result()


def test_an_exception_may_be_a_result(cf):
    future = cf.Future()
    error = ValueError("a value")
    future.set_result(error)
    assert future.result() is error
    assert future.exception() is None


class FalseByBool(Exception):
    def __bool__(self):
        return False


class FalseByLength(Exception):
    def __len__(self):
        return 0


@stdlib_from(3, 14, "older versions take a false exception for none")
@pytest.mark.parametrize("kind", [FalseByBool, FalseByLength])
def test_a_false_exception_is_an_exception(cf, kind):
    future = cf.Future()
    future.set_exception(kind("false"))
    with pytest.raises(kind):
        future.result()
    with cf.ThreadPoolExecutor(1) as executor:
        with pytest.raises(kind):
            executor.submit(_throw, kind).result()


def _throw(kind):
    raise kind


def test_an_exception_whose_truth_raises_does_no_harm(cf):
    class Awkward(Exception):
        def __eq__(self, other):
            raise RuntimeError("compared")

        __hash__ = None

    future = cf.Future()
    future.set_exception(Awkward())
    with pytest.raises(Awkward):
        future.result()
