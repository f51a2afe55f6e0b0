"""What a future looks like, and the attributes that other libraries touch."""
import copy
import gc
import pickle
import re
import threading
import types
import weakref

import pytest
from testkit import GUARD, STATES, Thing, freed, ours

TEXT = {
    "PENDING": "state=pending",
    "RUNNING": "state=running",
    "CANCELLED": "state=cancelled",
    "CANCELLED_AND_NOTIFIED": "state=cancelled",
    "FINISHED": "state=finished returned int",
}


@pytest.mark.parametrize("state", STATES)
def test_repr_in_each_state(unsettled, state):
    future = getattr(unsettled, state)
    assert repr(future) == f"<Future at {id(future):#x} {TEXT[state]}>"
    assert str(future) == repr(future)


def test_repr_of_a_failure_names_the_class(cf):
    future = cf.Future()
    future.set_exception(OSError("x"))
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=finished raised OSError>", repr(future))


def test_repr_of_a_subclass_names_the_subclass(cf):
    class Promise(cf.Future):
        pass

    future = Promise()
    future.set_result(None)
    assert repr(future) == f"<Promise at {id(future):#x} state=finished returned NoneType>"


# --- attributes -------------------------------------------------------------------------

def test_private_attributes_of_a_fresh_future(cf):
    future = cf.Future()
    assert future._state == "PENDING" == cf._base.PENDING
    assert future._result is None
    assert future._exception is None
    assert future._waiters == []
    assert future._done_callbacks == []
    assert future._waiters is future._waiters
    assert future._condition is future._condition


@pytest.mark.parametrize("state", STATES)
def test_state_attribute(unsettled, state):
    assert getattr(unsettled, state)._state == state


@pytest.mark.parametrize("state", STATES)
def test_setting_the_state_is_honoured(cf, state):
    """As the standard library's own tests make their futures."""
    future = cf.Future()
    future._state = state
    assert future._state == state
    assert future.done() is (state not in ("PENDING", "RUNNING"))
    assert future.running() is (state == "RUNNING")
    assert future.cancelled() is state.startswith("CANCELLED")
    assert "state=" + cf._base._STATE_TO_DESCRIPTION_MAP[state] in repr(future)


def test_setting_result_and_state_makes_a_finished_future(cf):
    future = cf.Future()
    future._result = value = object()
    future._state = cf._base.FINISHED
    assert future.result(0) is value
    assert cf.wait([future], 0).done == {future}
    assert list(cf.as_completed([future], 0)) == [future]


def test_setting_exception_and_state_makes_a_failed_future(cf):
    future = cf.Future()
    future._exception = error = ValueError("set")
    future._state = cf._base.FINISHED
    assert future.exception(0) is error
    with pytest.raises(ValueError) as caught:
        future.result(0)
    assert caught.value is error


def test_result_and_exception_attributes_follow_the_setters(cf):
    good, bad = cf.Future(), cf.Future()
    value, error = object(), ValueError()
    good.set_result(value)
    bad.set_exception(error)
    assert (good._result, good._exception) == (value, None)
    assert (bad._result, bad._exception) == (None, error)


def test_condition_guards_the_future(cf):
    """Other libraries hold `_condition` to look at several attributes at once."""
    future, order = cf.Future(), []

    def settle():
        future.set_result(1)
        order.append("settled")

    with future._condition:
        thread = threading.Thread(target=settle)
        thread.start()
        assert not future.done()
        order.append("released")
    thread.join(GUARD)
    assert order == ["released", "settled"]
    assert future.result(0) == 1


def test_condition_can_be_entered_twice_by_one_thread(cf):
    future = cf.Future()
    with future._condition, future._condition:
        assert future.done() is False
        future.set_result(1)
    assert future.result(0) == 1


def test_condition_wait_is_notified_when_the_future_ends(cf):
    future, ready = cf.Future(), threading.Event()
    woken = []

    def wait():
        with future._condition:
            ready.set()
            while future._state not in ("FINISHED", "CANCELLED"):
                if not future._condition.wait(GUARD):
                    return
            woken.append(future._state)

    thread = threading.Thread(target=wait)
    thread.start()
    assert ready.wait(GUARD)
    future.set_result(0)
    thread.join(GUARD)
    assert woken == ["FINISHED"]


def test_state_changed_by_hand_with_a_notification_wakes_result(cf):
    """Pebble and others settle futures through the attributes."""
    future, results = cf.Future(), []
    future._condition  # noqa: B018 - it is made by the first look
    thread = threading.Thread(target=lambda: results.append(future.result(GUARD)))
    thread.start()
    with future._condition:
        future._result = "by hand"
        future._state = "FINISHED"
        future._condition.notify_all()
    thread.join(GUARD)
    assert results == ["by hand"]


def test_waiters_are_told(cf):
    told = []

    class Waiter:
        def add_result(self, future):
            told.append(("result", future._state))

        def add_exception(self, future):
            told.append(("exception", future._state))

        def add_cancelled(self, future):
            told.append(("cancelled", future._state))

    good, bad, gone = futures = [cf.Future() for _ in range(3)]
    for future in futures:
        future._waiters.append(Waiter())
    good.set_result(1)
    bad.set_exception(ValueError())
    gone.cancel()
    assert told == [("result", "FINISHED"), ("exception", "FINISHED")]
    gone.set_running_or_notify_cancel()
    assert told[2:] == [("cancelled", "CANCELLED_AND_NOTIFIED")]


def test_done_callbacks_attribute_lists_what_was_added(cf):
    future, calls = cf.Future(), []
    first, second = calls.append, lambda f: calls.append("second")
    future.add_done_callback(first)
    future.add_done_callback(second)
    assert future._done_callbacks == [first, second]
    future._done_callbacks.remove(first)
    future.set_result(0)
    assert calls == ["second"]


def test_done_callbacks_attribute_can_be_appended_to(cf):
    future, calls = cf.Future(), []
    future._done_callbacks.append(lambda f: calls.append("appended"))
    future.add_done_callback(lambda f: calls.append("added"))
    future.set_result(0)
    assert calls == ["appended", "added"]


def test_done_callbacks_attribute_can_be_replaced(cf):
    future, calls = cf.Future(), []
    future.add_done_callback(lambda f: calls.append("old"))
    future._done_callbacks = [lambda f: calls.append("new")]
    future.set_result(0)
    assert calls == ["new"]


@pytest.mark.parametrize("how", ["set_result", "set_exception", "cancel"])
def test_invoke_callbacks_is_called_virtually(cf, how):
    class Counting(cf.Future):
        invoked = 0

        def _invoke_callbacks(self):
            self.invoked += 1
            super()._invoke_callbacks()

    future, calls = Counting(), []
    future.add_done_callback(calls.append)
    if how == "cancel":
        future.cancel()
    else:
        getattr(future, how)(None)
    assert future.invoked == 1
    assert calls == [future]


def test_invoke_callbacks_replaced_on_the_instance_is_called(cf):
    future, calls = cf.Future(), []
    future._invoke_callbacks = lambda: calls.append("mine")
    future.add_done_callback(lambda f: calls.append("callback"))
    future.set_result(None)
    assert calls == ["mine"]


def test_attributes_can_be_set_and_deleted_freely(cf):
    future = cf.Future()
    future.colour = "red"
    assert future.colour == "red" and future.__dict__["colour"] == "red"
    del future.colour
    assert not hasattr(future, "colour")
    with pytest.raises(AttributeError):
        future.colour  # noqa: B018


# --- class --------------------------------------------------------------------------------

def test_subclass_with_its_own_constructor_and_attributes(cf):
    class Named(cf.Future):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def result(self, timeout=None):
            return self.name, super().result(timeout)

    future = Named("n")
    future.set_result(1)
    assert future.result() == ("n", 1)
    assert cf.wait([future]).done == {future}


@ours("there a future without its constructor has no state at all")
def test_subclass_that_forgets_the_constructor_works(cf):
    class Careless(cf.Future):
        def __init__(self):
            pass

    future = Careless()
    future.set_result(1)
    assert future.result(0) == 1


def test_constructor_again_resets_nothing_that_hangs_or_crashes(cf):
    future = cf.Future()
    future.add_done_callback(print)
    future.set_result(1)
    future.__init__()
    assert repr(future)


def test_subclass_with_slots_and_with_another_base(cf):
    class Mixin:
        def hello(self):
            return "hello"

    class Slotted(Mixin, cf.Future):
        __slots__ = ("extra",)

    future = Slotted()
    future.extra = 1
    future.other = 2
    assert (future.hello(), future.extra, future.other) == ("hello", 1, 2)


def test_weak_reference(cf):
    future, gone = cf.Future(), []
    reference = weakref.ref(future, gone.append)
    assert reference() is future
    assert weakref.WeakSet([future])
    del future
    assert freed(reference)
    assert gone == [reference]


def test_generic_alias(cf):
    alias = cf.Future[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is cf.Future and alias.__args__ == (int,)
    assert isinstance(alias(), cf.Future)


def test_futures_are_compared_and_hashed_by_identity(cf):
    one, two = cf.Future(), cf.Future()
    assert one == one and one != two and len({one, two, one}) == 2
    with pytest.raises(TypeError):
        one < two  # noqa: B015
    with pytest.raises(TypeError):
        iter(one)
    assert bool(one)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_a_type_error(cf, protocol):
    future = cf.Future()
    for state in ("pending", "finished"):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(future, protocol)
        if state == "pending":
            future.set_result(1)


def test_deep_copy_is_a_type_error(cf):
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(cf.Future())


def test_methods_can_be_taken_from_the_class(cf):
    future = cf.Future()
    cf.Future.set_result(future, 3)
    assert cf.Future.result(future, timeout=0) == 3
    with pytest.raises(TypeError):
        cf.Future.result()
    if cf.implementation == "cfutures":
        with pytest.raises(TypeError):
            cf.Future.result(object())


def test_future_in_a_cycle_with_its_attribute_is_collected(cf):
    future, thing = cf.Future(), Thing()
    future.thing, thing.future = thing, future
    reference = weakref.ref(future)
    del future, thing
    gc.collect()
    assert freed(reference)


def test_attributes_and_weak_references_of_a_future_that_submit_made(pool):
    """It is made in another way than by calling its class."""
    executor = pool(1)
    futures = [executor.submit(int, n) for n in range(100)]
    plain = [vars(future) for future in futures[:50]]
    for n, future in enumerate(futures):
        for name in range(n % 40):
            setattr(future, f"a{name}", n)
    assert [{name: vars(future)[name] for name in vars(future) if name[0] == "a"}
            for future in futures] == [
        {f"a{name}": n for name in range(n % 40)} for n in range(100)]
    assert all(vars(future) is there for future, there in zip(futures, plain, strict=False))
    assert [future.result(GUARD) for future in futures] == list(range(100))
    for future in futures:
        future.itself = future
    references = [weakref.ref(future) for future in futures]
    del futures, future, plain
    gc.collect()
    assert all(map(freed, references))
