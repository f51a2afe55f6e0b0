"""Objects of ours that the collector frees together with their class, or at the very end."""
import pytest
from testkit import FREE_THREADED, GUARD, ours, run_child

pytestmark = ours("the standard library has no C code of its own to crash in")

KINDS = {
    "executor": "class Mine(cf.ThreadPoolExecutor): pass\nmake = lambda: Mine(1)",
    "used executor": """\
class Mine(cf.ThreadPoolExecutor):
    pass
def make():
    executor = Mine(1)
    executor.submit(int).result()
    return executor
""",
    "future": "class Mine(cf.Future): pass\nmake = Mine",
    "finished future": """\
class Mine(cf.Future):
    pass
def make():
    future = Mine()
    future.add_done_callback(id)
    future._condition, future._waiters
    future.set_result(Mine)
    return future
""",
    "pending future with callbacks": """\
class Mine(cf.Future):
    pass
def make():
    future = Mine()
    future.add_done_callback(lambda f: Mine)
    return future
""",
}


@pytest.mark.parametrize("order", ["class first", "instances first"])
@pytest.mark.parametrize("kind", KINDS)
def test_instance_and_its_class_are_garbage_together(kind, order):
    body = "\n".join("    " + line for line in KINDS[kind].splitlines())
    out = run_child(f"""
import gc, weakref
gone = []
def scenario():
    box = []
{body}
    if {order!r} == "class first":
        # Known to the collector later than the class, so cleared after it.
        box = [make(), make()]
        box.append(box)
    else:
        Mine.box = box
        box += [make(), make()]
    return weakref.ref(Mine, gone.append)
references = [scenario() for _ in range(5)]
end = time.monotonic() + {0.2 if FREE_THREADED else GUARD / 2}
while len(gone) < 5 and time.monotonic() < end:
    gc.collect()
    time.sleep(0.001)
print(len(gone))
""").out
    # Free-threaded 3.13 makes classes immortal once there are threads.
    assert FREE_THREADED or out.split() == ["5"]


@pytest.mark.parametrize("what", [
    "future", "executor", "as_completed", "map", "worker", "all"])
@pytest.mark.parametrize("kept", ["global", "cycle", "module", "builtins", "thread local"])
def test_objects_that_live_until_the_interpreter_ends(what, kept):
    run_child(f"""
import builtins, sys, types
class Box: pass
box = Box()
def make(name):
    executor = cf.ThreadPoolExecutor(1)
    pending = cf.Future()
    if name == "future":
        pending.add_done_callback(lambda f: box)
        return [pending, executor.submit(lambda: box)]
    if name == "executor":
        class Mine(cf.ThreadPoolExecutor): pass
        mine = Mine(1)
        mine.submit(int).result()
        return [mine, executor]
    if name == "as_completed":
        done = cf.Future()
        done.set_result(1)
        ready = cf.as_completed([pending, done])
        next(ready)
        return [ready, cf.as_completed([pending])]
    if name == "map":
        results = executor.map(int, range(5))
        next(results)
        return [results, executor.map(int, range(5))]
    if name == "worker":
        executor.submit(int).result()
        return list(executor._threads)
    return [make(n) for n in ("future", "executor", "as_completed", "map", "worker")]
things = make({what!r})
kept = {kept!r}
if kept == "cycle":
    box.things, box.myself = things, box
    del things
elif kept == "module":
    module = types.ModuleType("late")
    module.things, module.myself = things, module
    sys.modules["late"] = module
    del things
elif kept == "builtins":
    builtins.things = things
elif kept == "thread local":
    local = threading.local()
    local.things = things
""")


def test_finalizers_at_the_end_may_still_use_the_module():
    out = run_child("""
class Late:
    def __init__(self):
        self.myself = self
        self.cf = cf
    def __del__(self):
        cf = self.cf
        future = cf.Future()
        future.add_done_callback(lambda f: print("callback"))
        future.set_result(1)
        repr(future), future._condition
        cf.wait([future]), list(cf.as_completed([future]))
        try:
            cf.ThreadPoolExecutor(1).submit(int)
        except RuntimeError as error:
            print(error)
late = Late()
""").out
    assert out.splitlines() == [
        "callback", "cannot schedule new futures after interpreter shutdown"]
