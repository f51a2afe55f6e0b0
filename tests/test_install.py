"""install() and uninstall(), each in a process of its own: they change other modules."""
import pytest
from testkit import run_child


def child(code):
    """Run code in a fresh process where `cfutures` is imported; returns what it printed."""
    return run_child("import cfutures\n" + code).out


def test_every_way_to_import_gives_ours():
    assert child("""
import concurrent.futures, concurrent.futures.thread as thread, concurrent.futures._base as base
held = concurrent.futures
cfutures.install()
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
import concurrent.futures as cf
for name in "Future", "ThreadPoolExecutor", "as_completed", "wait":
    assert getattr(cf, name) is globals()[name] is getattr(cfutures, name), name
    assert getattr(held, name) is getattr(cfutures, name), name
assert thread.ThreadPoolExecutor is cfutures.ThreadPoolExecutor
for name in "Future", "as_completed", "wait":
    assert getattr(base, name) is getattr(cfutures, name), name
from concurrent.futures.thread import ThreadPoolExecutor as again
from concurrent.futures._base import Future as future_again
assert again is ThreadPoolExecutor and future_again is Future
print(ThreadPoolExecutor(1).submit(pow, 2, 5).result())
""") == "32\n"


@pytest.mark.parametrize("before", ["", "import concurrent.futures as c; c.ThreadPoolExecutor"],
                         ids=["names not looked up yet", "names looked up before"])
def test_uninstall_leaves_everything_as_it_was(before):
    child(f"""
import concurrent.futures, concurrent.futures._base, concurrent.futures.thread
import concurrent.futures.process, asyncio.futures, asyncio.base_events
{before}
modules = (concurrent.futures, concurrent.futures._base, concurrent.futures.thread,
           concurrent.futures.process, asyncio.futures, asyncio.base_events)
was = [dict(vars(m)) for m in modules]
cfutures.install()
assert was != [dict(vars(m)) for m in modules]
cfutures.uninstall()
assert was == [dict(vars(m)) for m in modules]
from concurrent.futures import ThreadPoolExecutor
assert ThreadPoolExecutor.__module__ == "concurrent.futures.thread"
""")


def test_install_and_uninstall_can_be_repeated():
    child("""
import concurrent.futures as c, concurrent.futures.thread
standard = c.Future, c.wait, c.as_completed, c.ThreadPoolExecutor
now = lambda: (c.Future, c.wait, c.as_completed, c.ThreadPoolExecutor)
cfutures.uninstall()
assert now() == standard
for _ in range(3):
    cfutures.install()
    cfutures.install()
    assert now() == (cfutures.Future, cfutures.wait, cfutures.as_completed,
                     cfutures.ThreadPoolExecutor)
    cfutures.uninstall()
    assert now() == standard
    cfutures.uninstall()
    assert now() == standard
""")


def test_threads_may_install_and_uninstall_at_once():
    child("""
import concurrent.futures as c, concurrent.futures.thread
standard = c.Future, c.ThreadPoolExecutor
start = threading.Barrier(8)
def work():
    start.wait(GUARD)
    for _ in range(50):
        cfutures.install()
        assert c.Future in (standard[0], cfutures.Future)
        cfutures.uninstall()
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
assert (c.Future, c.ThreadPoolExecutor) == standard
""")


def test_what_somebody_else_put_there_is_left():
    child("""
import concurrent.futures
cfutures.install()
mine = concurrent.futures.wait = lambda *args: None
cfutures.uninstall()
assert concurrent.futures.wait is mine
assert concurrent.futures._base.wait is not cfutures.wait
""")


def test_exceptions_constants_and_executor_are_the_standard_ones_throughout():
    child("""
import concurrent.futures as c
names = ("CancelledError", "TimeoutError", "InvalidStateError", "BrokenExecutor", "Executor",
         "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED")
was = [getattr(c, name) for name in names]
cfutures.install()
assert was == [getattr(c, name) for name in names]
with c.ThreadPoolExecutor(1) as threads:
    assert isinstance(threads, c.Executor)
assert c.ProcessPoolExecutor is cfutures.ProcessPoolExecutor
assert issubclass(c.ProcessPoolExecutor, c.Executor)
from concurrent.futures.process import ProcessPoolExecutor
assert ProcessPoolExecutor is cfutures.ProcessPoolExecutor
cfutures.uninstall()
assert not issubclass(c.ProcessPoolExecutor, cfutures.Executor)
""")


def test_what_was_made_before_goes_on_and_mixes_with_what_comes_after():
    assert child("""
import concurrent.futures as c
go = threading.Event()
old_pool = c.ThreadPoolExecutor(1)
old = [old_pool.submit(go.wait, GUARD), old_pool.submit(pow, 2, 2)]
old_wait = c.wait
cfutures.install()
new = [old_pool.submit(pow, 2, 3), c.ThreadPoolExecutor(1).submit(pow, 2, 4)]
assert [type(f) is cfutures.Future for f in old + new] == [False, False, True, True]
go.set()
for wait in c.wait, old_wait:
    done, not_done = wait(old + new, GUARD)
    assert len(done) == 4 and not not_done
assert set(c.as_completed(old + new, GUARD)) == set(old + new)
print([f.result() for f in old + new])
cfutures.uninstall()
assert len(c.wait(old + new, GUARD).done) == 4
old_pool.shutdown()
""") == "[True, 4, 8, 16]\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_standard_process_pools_go_on_working(method):
    assert child(f"""
import asyncio, concurrent.futures as c, multiprocessing
context = multiprocessing.get_context({method!r})
old = c.ProcessPoolExecutor(1, mp_context=context)
early = old.submit(pow, 2, 2)
cfutures.install()

async def main(pool):
    loop = asyncio.get_running_loop()
    return [await loop.run_in_executor(pool, pow, 3, 2),
            await asyncio.wrap_future(pool.submit(pow, 3, 3)),
            await asyncio.wrap_future(early)]

new = c.ProcessPoolExecutor(1, mp_context=context)
with old, new, c.ThreadPoolExecutor(1) as threads:
    for pool in old, new:
        print(asyncio.run(main(pool)), list(pool.map(abs, [-1, -2], chunksize=2)))
        assert isinstance(pool.submit(abs, 1), c.Future)
    futures = [pool.submit(abs, -1) for pool in (old, new, threads)]
    assert len(c.wait([early, *futures], GUARD).done) == 4
    assert set(c.as_completed(futures, GUARD)) == set(futures)
    try:
        new.submit(int, "x").result()
    except ValueError as e:
        print(type(e.__cause__).__name__)
""") == "[9, 27, 4] [1, 2]\n[9, 27, 4] [1, 2]\n_RemoteTraceback\n"


def test_a_broken_standard_process_pool_breaks_our_futures():
    assert child("""
import concurrent.futures as c, multiprocessing
from concurrent.futures.process import BrokenProcessPool
cfutures.install()
with c.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    futures = [pool.submit(os._exit, 1), pool.submit(pow, 2, 2), pool.submit(pow, 2, 2)]
    for future in c.as_completed(futures, GUARD):
        print(type(future.exception()) is BrokenProcessPool)
""") == "True\n" * 3


def test_asyncio_gets_our_default_executor():
    assert child("""
import asyncio
cfutures.install()
async def main():
    loop = asyncio.get_running_loop()
    name = await asyncio.to_thread(lambda: threading.current_thread().name)
    print(name, type(loop._default_executor) is cfutures.ThreadPoolExecutor)
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop)
    print(await asyncio.to_thread(future.result))
asyncio.run(main())
""") == "asyncio_0 True\nslept\n"


def test_asyncio_takes_standard_futures_and_pools_of_before_and_of_subclasses():
    assert child("""
import asyncio, concurrent.futures as c
class LibraryFuture(c.Future): pass
class LibraryPool(c.ThreadPoolExecutor): pass
old_pool, library_pool = c.ThreadPoolExecutor(1), LibraryPool(1)
old, library = old_pool.submit(pow, 2, 2), LibraryFuture()
cfutures.install()
async def main():
    loop = asyncio.get_running_loop()
    wrapped = [asyncio.wrap_future(f) for f in (old, library)]
    library.set_result("set")
    print(await asyncio.gather(*wrapped))
    cancelled = asyncio.wrap_future(c.Future())
    cancelled.cancel()
    for pool in old_pool, library_pool, c.ThreadPoolExecutor(1), cfutures.ThreadPoolExecutor(1):
        loop.set_default_executor(pool)
        print(await asyncio.to_thread(pow, 2, 3))
    for wrong in object(), c.ProcessPoolExecutor(1):
        try:
            loop.set_default_executor(wrong)
        except TypeError as error:
            print(error)
asyncio.run(main())
old_pool.shutdown(); library_pool.shutdown()
""") == ("[4, 'set']\n" + "8\n" * 4 + "executor must be ThreadPoolExecutor instance\n" * 2)


def test_asyncio_after_uninstall_refuses_nothing_it_took():
    child("""
import asyncio, concurrent.futures as c
cfutures.install()
future = c.Future()
pool = c.ThreadPoolExecutor(1)
cfutures.uninstall()
async def main():
    asyncio.get_running_loop().set_default_executor(pool)
    wrapped = asyncio.wrap_future(future)
    future.set_result(1)
    assert await wrapped == 1
    assert await asyncio.to_thread(pow, 2, 2) == 4
asyncio.run(main())
""")


def test_classes_derived_after_install_derive_from_ours():
    assert child("""
import concurrent.futures as c
cfutures.install()
class Pool(c.ThreadPoolExecutor):
    def submit(self, fn, /, *args):
        return super().submit(lambda: ("mine", fn(*args)))
assert issubclass(Pool, cfutures.ThreadPoolExecutor)
with Pool(1) as pool:
    print(list(pool.map(abs, [-1])))
""") == "[('mine', 1)]\n"


def test_subinterpreter_pools_still_derive_from_the_standard_thread_pool():
    child("""
cfutures.install()
if sys.version_info >= (3, 14):
    from concurrent.futures import InterpreterPoolExecutor
    assert not issubclass(InterpreterPoolExecutor, cfutures.ThreadPoolExecutor)
    with InterpreterPoolExecutor(1) as pool:
        assert pool.submit(pow, 2, 2).result(GUARD) == 4
""")


def test_install_in_the_parent_holds_in_a_forked_child():
    assert child("""
import concurrent.futures as c
cfutures.install()
pid = os.fork()
if pid == 0:
    with c.ThreadPoolExecutor(1) as pool:
        ok = pool.submit(pow, 2, 2).result(GUARD) == 4
    os._exit(0 if ok and type(pool) is cfutures.ThreadPoolExecutor else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""") == "0\n"


# --- %load_ext ---------------------------------------------------------------------------

def test_load_ext_renews_names_that_earlier_cells_imported():
    child("""
import concurrent.futures
from concurrent.futures import Future as F, ThreadPoolExecutor, wait
from types import SimpleNamespace
standard = dict(F=F, ThreadPoolExecutor=ThreadPoolExecutor, wait=wait, other=print)
magics = SimpleNamespace(magics={"line": {}})
shell = SimpleNamespace(
    user_ns=dict(standard), magics_manager=magics,
    register_magic_function=lambda f, kind, name: magics.magics[kind].update({name: f}))
cfutures.load_ipython_extension(shell)
assert shell.user_ns == dict(F=cfutures.Future, wait=cfutures.wait, other=print,
                             ThreadPoolExecutor=cfutures.ThreadPoolExecutor)
assert concurrent.futures.Future is cfutures.Future
cfutures.unload_ipython_extension(shell)
assert shell.user_ns == standard
assert concurrent.futures.Future is F
""")


def test_load_ext_in_ipython():
    pytest.importorskip("IPython", reason="IPython is not installed")
    assert child("""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(source):
    shell.run_cell(source).raise_error()
cell("from concurrent.futures import ThreadPoolExecutor")
cell("%load_ext cfutures")
cell("print(ThreadPoolExecutor.__module__)")
cell("from concurrent.futures import ThreadPoolExecutor; print(ThreadPoolExecutor.__module__)")
cell("%reload_ext cfutures")
cell("with ThreadPoolExecutor(1) as e: f = e.submit(pow, 2, 5)")
cell("print(f.result())")
html = shell.display_formatter.format(shell.user_ns["f"])[0]["text/html"]
assert "finished" in html and "32" in html, html
cell("%unload_ext cfutures")
cell("print(ThreadPoolExecutor.__module__)")
""") == ("cfutures.thread\ncfutures.thread\n32\nconcurrent.futures.thread\n")
