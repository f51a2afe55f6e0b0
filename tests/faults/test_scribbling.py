"""A worker writes nonsense over the memory that it shares with its parent.

What is promised: the parent does not crash, and does not hang once it has ended the pool:
every future has ended then, in whatever way, the pool's processes are gone, and other pools
are as good as before. (What a task returned can be nonsense: nobody can tell.)
"""
import pytest
from prockit import run_program
from testkit import ours

pytestmark = [
    ours("there is no shared memory to write over"),
    pytest.mark.usefixtures("kit"),
]

PROGRAM = """
import collections, gc, logging, random, time
import scribble_tasks
logging.disable(logging.CRITICAL)
ends = collections.Counter()

def life(seed, how, exits):
    watch(GUARD)
    rng = random.Random(seed)
    executor = cf.ProcessPoolExecutor(2, mp_context=context, on_crash="replace")
    held = executor.submit(tasks.echo, bytearray(200_000)).result(GUARD)
    futures = [executor.submit(tasks.echo, [n] * n) for n in range(20)]
    futures += [executor.submit(tasks.echo, bytearray(100_000)) for n in range(5)]
    futures.append(executor.submit(scribble_tasks.scribble, seed, how, exits))
    watched = set()
    try:
        for n in range(30):
            futures.append(executor.submit(tasks.add, n))
            futures[-1].add_done_callback(watched.add)
            if n % 10 == 0:
                futures.append(executor.submit(tasks.echo, bytearray(100_000)))
    except Exception as error:
        ends["submit(): " + repr(error)] += 1
    def ask():
        # Asleep in here when the word it sleeps on is written over.
        for future in futures:
            try:
                future.result()
            except Exception as error:
                ends[type(error).__name__] += 1
            else:
                ends["a result"] += 1
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    until = time.monotonic() + rng.choice((0, 0.02, 0.05))
    for future in futures:
        try:
            future.result(max(0, until - time.monotonic()))
        except Exception as error:
            ends["with a time limit: " + type(error).__name__] += 1
    executor.kill_workers()
    executor.shutdown()
    asking.join(GUARD // 2)
    assert not asking.is_alive(), "result() hangs though the pool is gone"
    assert len(list(cf.as_completed(futures, GUARD // 2))) == len(futures)
    bytes(held)
    del held, futures, future, ask, asking
    gc.collect()

for seed in range({first}, {first} + {count}):
    for how in ("bits", "words", "pages", "first"):
        for exits in (False, True):
            life(f"{{seed}} {{how}} {{exits}}", how, exits)
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
for text, count in ends.most_common(20):
    say(f"{{count:6d}} {{text}}")
"""


def test_scribbling_workers(request, rng):
    count = 40 if request.config.getoption("--deep") else 3
    code = PROGRAM.format(first=rng.randrange(2**32), count=count)
    print(run_program(code, limit=60).out)
