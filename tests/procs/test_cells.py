"""Code that is defined in ``__main__``, as in the cells of a notebook, in worker processes.

Each test is a program: what a user would write, with all workers running before the cells
are, unless the test says otherwise.
"""
import pytest
from prockit import run_program
from testkit import FREE_THREADED

IMPORTS = """\
import cell_kit as kit
from cell_kit import cell, error_of
from concurrent.futures import wait
def started(workers=1, **options):
    executor = cf.ProcessPoolExecutor(workers, mp_context=context, **options)
    assert executor.submit(kit.give, 1).result(GUARD) == 1
    return executor
def run(function, *args):
    return e.submit(function, *args).result(GUARD)
"""


STARTED = "e = started()\n"
#: The first task starts the worker: a fork inherits what was defined before.
NOT_STARTED = "e = cf.ProcessPoolExecutor(1, mp_context=context)\n"


@pytest.fixture
def notebook(method):
    """Run a program in which the pool `e` with a running worker exists."""
    def run(code, start=STARTED):
        return run_program(
            IMPORTS + start + code + "\ne.shutdown()\nsay('done')\n", "cfutures", method)

    return run


# ---- what can be sent ----------------------------------------------------------------


def test_functions_lambdas_closures(notebook):
    notebook("""
cell('''
import math
K = 3
def helper(x): return x + K
def f(x, *, more=10): return helper(math.floor(x)) + more
def make(n):
    def inner(x): return x * n
    return inner
async def coroutine(): return K
def generator(): yield from range(K)
''')
assert run(f, 1.5) == 14 and e.submit(f, 1, more=0).result(GUARD) == 4
assert run(lambda: K + 1) == 4
assert run(make(7), 6) == 42
assert [run(make(n), 1) for n in range(5)] == list(range(5))
assert list(e.map(lambda x: f(x), range(5))) == [13, 14, 15, 16, 17]
assert list(e.map(make(2), range(50), chunksize=7)) == list(range(0, 100, 2))
assert run(kit.apply, f, 2) == 15 and run(kit.apply, make(2), 4) == 8
assert run(lambda: list(generator())) == [0, 1, 2]
import asyncio
assert run(lambda: asyncio.run(coroutine())) == 3
""")


def test_recursive_functions(notebook):
    notebook("""
cell('''
def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def make():
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    return fib
''')
assert run(factorial, 10) == 3628800
assert run(even, 10) and not run(even, 7) and run(odd, 7)
assert run(make(), 10) == 55
""")


def test_two_closures_share_what_they_enclose(notebook):
    notebook("""
cell('''
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    def value(): return n
    return up, value
def use(up, value):
    up(); up()
    return value()
''')
assert run(use, *counter()) == 2
""")


@pytest.mark.parametrize("start", [STARTED, NOT_STARTED], ids=["started", "inherited"])
def test_instances_come_back_as_instances_of_the_very_class(notebook, start):
    notebook(start=start, code="""
cell('''
class Point:
    made = 0
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is type(self) and other.x == self.x
    def twice(self): return Point(2 * self.x)
    @classmethod
    def at(cls, x): return cls(x)
    @staticmethod
    def zero(): return Point(0)
    @property
    def half(self): return self.x / 2
class Point3(Point):
    def __init__(self, x, z):
        super().__init__(x)
        self.z = z
def twice(p):
    assert isinstance(p, Point), (type(p), Point)
    return p.twice()
def is_point(p): return isinstance(p, Point), type(p) is Point3
''')
p = run(twice, Point(4))
assert type(p) is Point and p == Point(8)
assert run(is_point, p) == (True, False) and run(is_point, Point3(1, 2)) == (True, True)
q = run(kit.give, [Point3(1, 2)])[0]
assert type(q) is Point3 and (q.x, q.z) == (1, 2) and isinstance(q, Point)
assert type(run(Point, 5)) is Point and run(Point.at, 5) == Point(5) == run(Point(5).at, 5)
assert run(Point(5).twice) == Point(10) and run(Point.zero) == Point(0)
assert run(lambda p: p.half, Point(5)) == 2.5
assert run(Point.twice, Point(1)) == Point(2)
assert run(lambda: Point) is Point
""")


def test_results_leave_the_class_as_it_is(notebook):
    """Its methods are the ones that the cell defined, with the globals of this process."""
    notebook("""
cell('''
K = 1
class C:
    def get(self): return K
''')
import copyreg
copyreg._slotnames(C)       # pickling makes a note in the class
before = dict(vars(C))
c = run(C)
assert type(c) is C and run(kit.give, C()).get() == 1
assert dict(vars(C)) == before and C.get.__globals__ is globals()
K = 2
assert c.get() == 2 and run(C.get, c) == 2
""")


@pytest.mark.parametrize("start", [STARTED, NOT_STARTED], ids=["started", "inherited"])
def test_kinds_of_classes(notebook, start):
    notebook(start=start, code="""
cell('''
import abc, collections, dataclasses, enum, functools, typing
@dataclasses.dataclass
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def other(self): return Color.BLUE if self is Color.RED else Color.RED
class Flags(enum.IntFlag):
    A = 1
    B = 2
Pair = collections.namedtuple('Pair', 'u v')
class Typed(typing.NamedTuple):
    u: int
    v: int = 3
class Slots:
    __slots__ = ('x',)
class Base(abc.ABC):
    @abc.abstractmethod
    def value(self): ...
class Derived(Base):
    def value(self): return 5
T = typing.TypeVar('T')
class Box(typing.Generic[T]):
    def __init__(self, x: T): self.x = x
class Meta(type):
    def __call__(cls, *args): return super().__call__(*args)
class WithMeta(metaclass=Meta): pass
class Cached:
    calls = 0
    @functools.cached_property
    def value(self): return 7
class MyList(list): pass
class Outer:
    class Inner: pass
''')
for value in (Data(1, [2]), Frozen(3), Pair(1, 2), Typed(4), MyList([1]), Flags.A | Flags.B):
    assert run(lambda a, b: a == b, value, value)
    back = run(kit.give, value)
    assert type(back) is type(value) and back == value, value
assert run(kit.give, Color.RED) is Color.RED and run(Color.RED.other) is Color.BLUE
assert run(lambda c: c is Color.RED, Color.RED)
s = Slots(); s.x = 9
assert run(lambda s: (s.x, hasattr(s, '__dict__')), s) == (9, False)
assert run(kit.give, s).x == 9
def derive():
    @dataclasses.dataclass
    class More(Data):
        c: int = 4
    return More(1)
assert run(derive).c == 4
assert [f.name for f in dataclasses.fields(run(kit.give, Frozen(3)))] == ['a']
assert run(lambda d: dataclasses.replace(d, a=4), Frozen(3)) == Frozen(4)
assert run(Derived().value) == 5 and isinstance(run(Derived), Base)
assert run(lambda: Box[int](3).x) == 3 and type(run(Box, 3)) is Box
assert type(run(WithMeta)) is WithMeta and type(run(type, WithMeta())) is Meta
assert run(lambda: Cached().value) == 7
assert type(run(Outer.Inner)) is Outer.Inner
""")


def test_local_class_of_a_task(notebook):
    notebook("""
cell('''
def make():
    class Local:
        x = 5
    return Local()
''')
a, b = run(make), run(make)
assert a.x == b.x == 5 and type(a) is not type(b)
assert type(run(kit.give, a)) is type(a)
""")


def test_exceptions_of_a_cell(notebook):
    notebook("""
cell('''
class Wrong(Exception):
    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")
        self.why = why
def fail(): raise Wrong('it', 'because')
''')
try:
    run(fail)
except Wrong as error:
    assert error.why == 'because' and str(error) == 'it: because'
else:
    raise AssertionError
error = error_of(e.submit(fail))
text = str(error.__cause__)
assert "def fail(): raise Wrong('it', 'because')" in text and '<cell 1>' in text, text
""")


def test_traceback_of_a_lambda_that_came_as_an_argument(notebook):
    notebook("""
cell('''
def g(x):
    return 1 / x        # in a cell
''')
text = str(error_of(e.submit(kit.apply, g, 0)).__cause__)
assert 'return 1 / x        # in a cell' in text, text
""")


def test_traceback_of_code_whose_name_is_used_again(notebook):
    """As in a plain prompt, where everything is in <stdin>."""
    notebook("""
import linecache
def enter(source):
    linecache.cache['<stdin>'] = (len(source), None, source.splitlines(True), '<stdin>')
    exec(compile(source, '<stdin>', 'exec'), globals())
for n in range(3):
    enter(f'def f(): return {n} / 0')
    assert f'return {n} / 0' in str(error_of(e.submit(f)).__cause__)
    enter(f'def g(): return {n} // 0')
    assert f'return {n} // 0' in str(error_of(e.submit(g)).__cause__)
assert 'def g(): return 2' in linecache.getline('<stdin>', 1)
""")


def test_callable_objects(notebook):
    notebook("""
cell('''
import functools
K = 2
def f(a, b): return a * b + K
class Adder:
    def __init__(self, n): self.n = n
    def __call__(self, x): return x + self.n + K
    def method(self, x): return x - self.n
    def __private(self): return self.n
    def private(self): return self.__private
@functools.lru_cache(maxsize=7)
def cached(x): return [x, K]
@functools.cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def logged(fn):
    @functools.wraps(fn)
    def wrapper(*args): return ('logged', fn(*args))
    return wrapper
@logged
def decorated(x): return x + K
''')
assert run(functools.partial(f, 3), 4) == 14 and run(functools.partial(f, b=3), 4) == 14
assert run(Adder(3), 4) == 9 and run(Adder(3).method, 4) == 1
assert run(cached, 1) == [1, 2] and run(lambda: cached.cache_parameters()['maxsize']) == 7
assert run(fib, 50) == 12586269025
assert run(decorated, 1) == ('logged', 3)
K = 3
assert run(functools.partial(f, 3), 4) == 15 and run(Adder(3), 4) == 10
assert run(cached, 1) == [1, 3] and run(decorated, 1) == ('logged', 4)
""")


def test_a_worker_keeps_what_it_cached(notebook):
    notebook("""
cell('''
import functools
@functools.lru_cache
def slow(x): return object()
def same(x): return slow(x) is slow(x), slow.cache_info().misses
''')
assert [run(same, 1) for _ in range(3)] == [(True, 1)] * 3
""")


def test_submodules_of_packages(notebook):
    notebook("""
cell('''
import xml, xml.dom, xml.dom.minidom
def parse(text): return xml.dom.minidom.parseString(text).documentElement.tagName
''')
assert run(parse, '<a/>') == 'a'
""")


def test_names_in_the_body_of_a_class_inside_a_function(notebook):
    notebook("""
cell('''
LIMIT = 8
def make():
    class Inner:
        limit = LIMIT
    return Inner.limit
''')
assert run(make) == 8
""")


def test_functions_made_by_exec_bring_their_globals(notebook):
    notebook("""
space = {'__name__': 'somewhere'}
exec('n = 5\\ndef a(): return n + 1\\ndef b(): return a() + 1', space)
assert run(space['b']) == 7
space['n'] = 6
assert run(space['b']) == 8
assert run(lambda a, b: a.__globals__ is b.__globals__, space['a'], space['b'])
""")


def test_lambdas_of_a_module_use_the_module(notebook):
    notebook("""
import proc_tasks
cell('''
import testkit
exec('def hidden(): return GUARD, add(1)', vars(testkit))
f = testkit.hidden
del testkit.hidden
''')
import testkit
assert run(f) == (testkit.GUARD, 2)
""")


# ---- which version runs --------------------------------------------------------------


def test_the_newest_definition_runs(notebook):
    notebook("""
for n in range(20):
    cell(f'''
def helper(): return {n}
def f(): return helper(), {n}
class C:
    version = {n}
    def get(self): return helper(), self.version
''')
    assert run(f) == (n, n) and run(C().get) == (n, n) and run(C).version == n
    assert type(run(C)) is C
""")


def test_redefined_class_is_another_class(notebook):
    notebook("""
cell('class C: x = 1')
old = C()
cell('''
class C: x = 2
def which(c): return isinstance(c, C), c.x
''')
assert run(which, old) == (False, 1) and run(which, C()) == (True, 2)
assert type(run(kit.give, old)) is type(old) is not C
""")


def test_tasks_in_the_queue_keep_the_version_of_their_submit(notebook, tmp_path):
    notebook(f"""
import prockit
door = prockit.Door({str(tmp_path)!r})
blocker = e.submit(tasks.wait_at, door.path)
door.entered()
futures = []
items = []
for n in range(30):
    K = n
    items.append(n)
    if n % 3 == 0:
        cell(f'def f(): return K, len(items), {{n}}')
    futures.append((n, e.submit(f)))
door.open()
for n, future in futures:
    assert future.result(GUARD) == (n, n + 1, n - n % 3), n
door.close()
""")


def test_functions_that_read_the_same_global_see_the_same_value(notebook):
    """Each sees the value as of its own submit, whatever was sent for another before."""
    notebook("""
cell('''
x = 1
def f(): return x
def g(): return x
class C:
    def get(self): return x
''')
for value in (1, 2, 1, 3, 1, 1, 2):
    x = value
    for task in (f, g, C().get, lambda: x, f):
        assert run(task) == value, value
    x = 7
    assert run(g) == 7
    x = value
    assert run(f) == value and run(kit.apply, g) == value
""")


# ---- globals have the values they had at submit ---------------------------------------


def test_rebound_globals(notebook):
    notebook("""
cell('''
K = 0
def helper(): return K
def f(): return helper()
def lazily(): return later
''')
for K in (1, 2.5, 'text', None, (1, (2, 3)), frozenset({4}), b'bytes', [5], {6: 7}):
    assert run(f) == K
assert type(error_of(e.submit(lazily))) is NameError
later = 5
assert run(lazily) == 5
del later
assert type(error_of(e.submit(lazily))) is NameError
""")


def test_globals_that_change_in_place(notebook):
    notebook("""
cell('''
class Thing: pass
items = [1]
table = {'a': {'b': 1}}
thing = Thing()
thing.inner = [0]
names = {'x'}
def f(): return list(items), table['a']['b'], thing.inner[0], sorted(names)
def through(): return f()
''')
assert run(f) == run(through) == ([1], 1, 0, ['x'])
items.append(2)
assert run(f) == run(through) == ([1, 2], 1, 0, ['x'])
table['a']['b'] = 2
thing.inner[0] = 3
names.add('y')
assert run(f) == run(through) == ([1, 2], 2, 3, ['x', 'y'])
items.pop(); table['a']['b'] = 1; thing.inner[0] = 0; names.discard('y')
assert run(through) == run(f) == ([1], 1, 0, ['x'])
""")


def test_arrays_that_change_in_place(notebook):
    pytest.importorskip("numpy")
    notebook("""
cell('''
import numpy as np
a = np.zeros(100_000)
constant = np.arange(1000.0)
constant.flags.writeable = False
def total(): return float(a.sum()), float(constant[3]), a.flags.writeable
''')
assert run(total) == (0, 3, True)
a[99_999] = 5
assert run(total) == (5, 3, True)
a[:] = 1
assert run(total) == (100_000, 3, True)
""")


def test_frames_that_change_in_place(notebook):
    pytest.importorskip("pandas")
    notebook("""
cell('''
import pandas as pd
df = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})
def total(): return int(df.a.sum()), list(df.columns)
''')
assert run(total) == (3, ['a', 'b'])
df.loc[0, 'a'] = 5
assert run(total) == (7, ['a', 'b'])
df['c'] = 1
assert run(total) == (7, ['a', 'b', 'c'])
""")


@pytest.mark.parametrize("start", [STARTED, NOT_STARTED], ids=["started", "inherited"])
def test_what_hangs_on_functions_and_classes(notebook, start):
    notebook(start=start, code="""
cell('''
def f(x=[1], *, y={'a': 1}): return x, y, getattr(f, 'note', None)
class C:
    kind = 'plain'
    shared = []
    def get(self, default=[0]): return self.kind, list(self.shared), list(default)
def make():
    n = 0
    def get(): return n
    def put(value):
        nonlocal n
        n = value
    return get, put
get, put = make()
''')
assert run(f) == ([1], {'a': 1}, None) and run(C().get) == ('plain', [], [0])
f.__defaults__[0].append(2); f.__kwdefaults__['y']['a'] = 3; f.note = 'new'
assert run(f) == ([1, 2], {'a': 3}, 'new')
f.note = ['other']; f.__defaults__ = (5,)
assert run(f) == (5, {'a': 3}, ['other'])
f.note.append(1); f.__kwdefaults__ = {'y': 0}
assert run(f) == (5, 0, ['other', 1])
c = C()
C.kind = 'changed'; C.shared.append(4)
assert run(c.get) == ('changed', [4], [0])
C.get.__defaults__[0].append(1)
assert run(c.get) == ('changed', [4], [0, 1])
C.get = lambda self: 'patched'
assert run(c.get) == 'patched'
C.extra = 1
assert run(lambda: C.extra) == 1
del C.extra
assert run(lambda: hasattr(C, 'extra')) is False
assert run(get) == 0
put(6)
assert run(get) == 6
put([7])
assert run(get) == [7]
get.__closure__[0].cell_contents.append(8)
assert run(get) == [7, 8]
def code(): return 'other code'
get.__code__ = (lambda n: lambda: ('new', n))(0).__code__
assert run(get) == ('new', [7, 8])
""")


def test_shadowed_builtins(notebook):
    notebook("""
cell('def f(): return max(1, 2)')
assert run(f) == 2
max = min
assert run(f) == 1
del max
assert run(f) == 2
""")


def test_a_builtin_that_was_shadowed_before_the_workers_were_started(notebook):
    notebook("""
cell('def f(): return max(1, 2)')
del max
assert run(f) == 2
""", start="max = min\ne = started()\n")


def test_what_tasks_change_stays_in_their_worker(notebook):
    notebook("""
cell('''
count = 0
seen = []
def step(x):
    global count
    count += 1
    seen.append(x)
    return count, list(seen)
''')
assert run(step, 'a') == (1, ['a']) and run(step, 'b') == (2, ['a', 'b'])
assert count == 0 and seen == []
count = 10
assert run(step, 'c') == (11, ['a', 'b', 'c'])
seen.append('x')
assert run(step, 'd') == (12, ['x', 'd'])
""")


def test_results_do_not_change_the_globals_here(notebook):
    notebook("""
cell('''
x = 1
def getter():
    return lambda: x
def changed():
    global x
    x = 5
    return getter()
''')
get = run(getter)
assert get() == 1
assert run(changed)() == 1 and x == 1
x = 2
assert get() == 2
""")


# ---- what initializers assign ----------------------------------------------------------


@pytest.mark.parametrize("before", ["", "model = None", "model = []"])
def test_a_global_that_the_initializer_assigns(notebook, before):
    """With the usual `model = None` before it, too."""
    notebook("""
def ask(): return model, stamp
assert run(ask) == ('loaded', 'arg')
assert run(lambda: model) == 'loaded' and run(kit.apply, ask) == ('loaded', 'arg')
model = 'changed here'
assert run(ask) == ('changed here', 'arg')
""", start=before + """
def load(arg):
    global model, stamp
    model = 'loaded'
    stamp = arg
e = started(initializer=load, initargs=('arg',))
""")


# ---- what cannot be sent ---------------------------------------------------------------


def test_locks_of_threads(notebook):
    notebook("""
cell('''
import threading
lock = threading.Lock()
rlock = threading.RLock()
class Counter:
    lock = threading.Lock()
    n = 0
    def up(self):
        with self.lock, lock, rlock:
            self.n += 1
        return self.n
''')
assert run(Counter().up) == 1
with lock:
    assert run(Counter().up) == 1
""")


def test_unpicklable_globals_that_were_there_before(method):
    """Locks between processes work as with the standard library, if a fork inherits them."""
    code = IMPORTS + """
lock = context.Lock()
file = open(os.devnull)
def f():
    with lock:
        return file.name
e = started()
if {forked}:
    assert run(f) == os.devnull
    K = 1
    def f():
        with lock:
            return file.name, K
    assert run(f) == (os.devnull, 1)
    file = open(os.devnull)
error = error_of(e.submit(f))
assert type(error) is NameError and ('file' in str(error) or 'lock' in str(error))
assert 'cannot be pickled' in error.__notes__[0], error.__notes__
assert 'cannot be pickled' in str(error.__cause__)
e.shutdown()
"""
    run_program(code.format(forked=method == "fork"), "cfutures", method)


def test_sockets_and_connections_that_a_function_reads(notebook):
    """As with the standard library, a fork inherits them; they are not duplicated."""
    notebook("""
cell('''
def f(): return left.fileno(), receive.fileno()
class Copied:
    def __reduce__(self): return Copied, ()
class Shared: pass
copied, shared = Copied(), Shared()
def g(): return type(copied).__name__, shared
''')
import socket
from multiprocessing.reduction import ForkingPickler
left, right = socket.socketpair()
receive, send = multiprocessing.Pipe()
before = len(os.listdir('/proc/self/fd'))
for _ in range(20):
    error = error_of(e.submit(f))
    assert type(error) is NameError and 'cannot be pickled' in error.__notes__[0], error
assert len(os.listdir('/proc/self/fd')) == before
ForkingPickler.register(Copied, lambda obj: 1 / 0)
ForkingPickler.register(Shared, lambda obj: 1 / 0)
error = error_of(e.submit(g))
assert type(error) is NameError and 'only as an argument' in error.__notes__[0]
shared = 5
assert run(g) == ('Copied', 5)
""")


def test_unpicklable_globals_that_the_task_does_not_use(notebook):
    """The executor, more often than not."""
    notebook("""
cell('''
class Study:
    def run(self): return e.submit(self.step).result(GUARD)
    def step(self): return 5
''')
assert Study().run() == 5
""")


def test_what_holds_something_unpicklable_itself(notebook):
    notebook("""
def f(file=open(os.devnull)): return 1
def make():
    file = open(os.devnull)
    return lambda: file
def generator(): yield
for bad in (f, make()):
    error = error_of(e.submit(bad))
    assert 'TextIOWrapper' in str(error) or "no attribute 'f'" in str(error), error
g = generator()
error = error_of(e.submit(lambda: next(g)))
assert type(error) is NameError and 'generator' in error.__notes__[0]
assert run(kit.give, 1) == 1
""")


# ---- by reference ----------------------------------------------------------------------


def test_what_can_be_imported_goes_by_reference(notebook):
    notebook("""
import math, operator, pickle
import proc_tasks
from cfutures import _cells
for fn in (proc_tasks.add, math.sin, operator.add, len, dict, kit.Described, str.upper,
           pickle.Pickler, dict.fromkeys, kit.Described.__init__):
    described = _cells.describe(fn)
    if described is not None:
        assert len(described[0]) < 100 and not described[2] and described[4] is None, fn
        assert _cells.load(described[0]) is fn or fn == _cells.load(described[0])
assert run(str.upper, 'a') == 'A' and run(dict.fromkeys, 'a') == {'a': None}
assert e.submit(dict, a=1).result(GUARD) == {'a': 1}
""")


def test_rebound_imported_function(notebook):
    """The old one is still what the user asks for: it travels by value."""
    notebook("""
import testkit
add = testkit.add
assert run(add, 1) == 2
testkit.add = lambda a: 'patched'
assert run(add, 1) == 2
assert run(testkit.add, 1) == 'patched'
testkit.add = add
assert run(add, 1) == 2
""")


# ---- how often it is pickled -----------------------------------------------------------


def test_a_loop_of_submits_pickles_once(notebook):
    notebook("""
counter = kit.Described()
cell('''
import math
K = 3
class C:
    def get(self): return K
def helper(x): return math.floor(x)
def f(x): return helper(x) + K + C().get()
''')
fs = [e.submit(f, n) for n in range(10_000)]
assert sum(future.result(GUARD) for future in fs) == 10_000 * 9999 // 2 + 60_000
assert counter.functions == [f]
K = 4
fs = [e.submit(f, n) for n in range(100)]
assert [future.result(GUARD) for future in fs] == [n + 8 for n in range(100)]
assert counter.functions == [f, f]
""")


def test_what_can_change_is_sent_when_it_did(notebook):
    notebook("""
counter = kit.Described()
cell('''
items = [1]
def f(): return len(items)
''')
assert [run(f) for _ in range(10)] == [1] * 10
assert counter.made == [f] and len(counter.functions) == 10
items.append(2)
assert [run(f) for _ in range(10)] == [2] * 10
assert counter.made == [f, f]
items = [1, 2]
assert [run(f) for _ in range(10)] == [2] * 10
assert counter.made == [f, f]
""")


def test_map_of_a_list_looks_once_at_what_can_change(notebook):
    notebook("""
counter = kit.Described()
cell('''
table = {n: -n for n in range(100)}
def f(n): return table[n]
def numbers():
    for n in range(100):
        table[n] = n
        yield n
''')
assert list(e.map(f, range(100))) == [-n for n in range(100)]
assert len(counter.functions) == 1
assert list(e.map(f, list(range(100)), buffersize=5)) == [-n for n in range(100)]
assert len(counter.functions) == 101
# A generator is the user's code, which may change what the function reads.
assert list(e.map(f, numbers())) == list(range(100))
assert len(counter.functions) == 201
""")


@pytest.mark.parametrize("items", ["range(1000)", "iter(range(1000))"])
def test_chunks_do_not_bring_the_function_with_them(notebook, items):
    notebook(f"""
counter = kit.Described()
cell('''
K = 3
def f(n): return n + K
''')
assert list(e.map(f, {items}, chunksize=10)) == list(range(3, 1003))
assert len(counter.made) == 1 and len(counter.functions) <= 2
""")


def test_each_version_is_loaded_once_by_a_worker(notebook):
    notebook("""
cell('''
import sys
class Loads:
    count = 0
    def __reduce__(self): return (made, ())
def made():
    sys.loads = getattr(sys, 'loads', 0) + 1
    return Loads()
loads = Loads()
def f(): return loads and sys.loads
''')
assert [run(f) for _ in range(50)] == [1] * 50
""")


# ---- what is kept ----------------------------------------------------------------------


def test_submitted_functions_are_not_kept_alive(notebook):
    notebook("""
import gc, weakref
from testkit import COLLECTOR_HANGS, freed
cell('''
def make(n):
    def fn(): return n
    return fn
''')
references = []
for n in range(50):
    fn = make(n)
    references.append(weakref.ref(fn))
    assert run(fn) == n
del fn
assert all(map(freed, references))
cell('def rec(n): return n and rec(n - 1)')
old = weakref.ref(rec)
assert run(rec, 3) == 0
cell('def rec(n): return n and rec(n - 1)')
# Free-threaded 3.13 keeps every function of a module for ever once there are threads.
assert COLLECTOR_HANGS or freed(old)
""")


def test_more_functions_than_the_table_holds(notebook):
    notebook("""
cell('''
def make(n):
    return lambda: n
''')
functions = [make(n) for n in range(700)]
for _ in range(2):
    futures = [e.submit(fn) for fn in functions]
    assert [future.result(GUARD) for future in futures] == list(range(700))
""")


def test_large_globals(notebook):
    """Larger than what the table keeps of several; old versions go."""
    notebook("""
cell('''
data = bytearray(30_000_000)
def f(): return len(data), data[0]
''')
for n in range(12):
    data[0] = n
    assert run(f) == (30_000_000, n)
""")


def test_large_globals_of_a_fork_are_not_copied():
    """Workers share the memory of what they inherited until somebody writes to it."""
    pytest.importorskip("numpy")
    run_program(IMPORTS + """
import numpy as np
big = np.ones(8_000_000)
other = 0
def private():
    with open('/proc/self/smaps_rollup') as file:
        for line in file:
            if line.startswith('Private_Dirty'):
                return int(line.split()[1]) * 1024
def f(): return float(big[5]), private() + other
def g():
    big[5] = 7
    return float(big[5])
e = started()
before = run(private)
value, now = run(f)
assert value == 1 and now - before < 20_000_000, (before, now)
other = 1
value, now = run(f)
assert value == 1 and now - before < 20_000_000, (before, now)
big[5] = 2                          # the worker does not have that
value, now = run(f)
assert value == 2
assert run(g) == 7 and run(f)[0] == 7 and big[5] == 2, 'what a worker writes is its own'
e.shutdown()
""", "cfutures", "fork")


def test_large_globals_that_make_every_submit_slow_are_told_once(notebook):
    pytest.importorskip("numpy")
    notebook("""
import warnings
from cfutures import _cells
_cells.PATIENCE = 0
cell('''
import numpy as np
big = np.zeros(100_000)
small = [1]
def f(): return len(big) + len(small)
def g(): return len(small)
def loop(): return [e.submit(f).result(GUARD) for _ in range(3)]
''')
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    assert loop() == [100_001] * 3
    assert [run(g) for _ in range(3)] == [1] * 3
assert len(caught) == 1 and "global 'big'" in str(caught[0].message), caught
assert caught[0].filename == '<cell 1>', 'where the task was submitted'
big.flags.writeable = False
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    assert loop() == [100_001] * 3
assert not caught
""")


def test_large_globals_that_are_not_arrays(notebook):
    notebook("""
cell('''
text = 'x' * 200_000
blob = b'y' * 200_000
items = list(range(50_000))
table = {n: str(n) for n in range(20_000)}
functions = [lambda n=n: n + K for n in range(3)] + [None] * 100_000
K = 1
def f(): return len(text), len(blob), sum(items), table[77], functions[2]()
''')
expected = [200_000, 200_000, 1249975000, '77', 3]
assert run(f) == tuple(expected)
K = 2; items[0] = 5
assert run(f) == (200_000, 200_000, 1249975005, '77', 4)
assert run(kit.apply, f) == run(f)
text += 'x'
assert run(f)[0] == 200_001 and run(kit.apply, f)[0] == 200_001
""")


def test_constant_partial_objects_are_sent_once(notebook):
    notebook("""
import functools
counter = kit.Described()
cell('''
def f(a, b, c=0): return a, b, c
''')
p = functools.partial(f, 1, c=(2, 3))
assert [run(p, n) for n in range(5)] == [(1, n, (2, 3)) for n in range(5)]
assert counter.made == [p] and len(counter.functions) == 1
p.keywords['c'] = 4
assert run(p, 0) == (1, 0, 4)
q = functools.partial(f, [1])
assert run(q, 0) == ([1], 0, 0)
q.args[0].append(2)
assert run(q, 0) == ([1, 2], 0, 0)
assert run(functools.partial(kit.apply, f), 1, 2) == (1, 2, 0)
""")


def test_what_a_partial_object_holds_is_made_for_each_task(notebook):
    notebook("""
import functools
cell('def put(items, x): items.append(x); return items')
p = functools.partial(put, [])
assert [run(p, n) for n in range(3)] == [[0], [1], [2]]
""")


def test_the_executor_that_a_function_mentions_is_not_kept_alive():
    run_program(IMPORTS + """
import gc, weakref
cell('''
def f(n): return e.submit(f, n - 1) if n else 0
class C:
    def get(self): return e
''')
e = started()
assert run(f, 0) == 0 and type(run(kit.give, C())) is C
reference = weakref.ref(e)
gc.disable()
del e
assert reference() is None
""", "cfutures", "fork")


# ---- at the same time ------------------------------------------------------------------


def test_submit_while_pickling(notebook):
    """Describing a function runs code of the user's, which submits and redefines."""
    notebook("""
cell('''
inner = []
parent = os.getpid()
class Nosy:
    busy = False
    def __reduce__(self):
        if os.getpid() == parent and not Nosy.busy:
            Nosy.busy = True
            try:
                global helper
                helper = lambda: 'inner'
                inner.append(e.submit(g))
                inner.append(e.submit(kit.give, self))
            finally:
                Nosy.busy = False
        return (Nosy, ())
nosy = Nosy()
def helper(): return 'outer'
def g(): return helper(), nosy
def f(): return helper(), nosy
''')
for _ in range(5):
    assert type(run(f)[1]) is Nosy
    assert run(g)[0] == 'inner'
assert all(future.exception(GUARD) is None for future in inner) and inner
""")


@pytest.mark.timeout(180)
def test_threads_that_submit_and_redefine(notebook):
    """Each result is that of one definition, never of a mixture."""
    rounds = 100 if FREE_THREADED else 300
    notebook(f"""
cell('''
def helper(n=0): return n
def f(a=0): return a, helper()
class C:
    a = 0
def use(c): return c.a
''')
stop = threading.Event()
def redefine():
    n = 0
    while not stop.is_set():
        n += 1
        cell(f'def helper(n={{n}}): return n')
        cell(f'def f(a={{n}}): return a, helper()')
        cell(f'class C: a = {{n}}')
        time.sleep(0.001)
problems = []
def submit():
    try:
        last = 0
        for _ in range({rounds}):
            a, b = run(f)
            assert last <= a <= b, (last, a, b)
            last = a
            c = C()
            assert run(use, c) == c.a and type(run(kit.give, c)) is type(c)
    except BaseException as error:
        problems.append(error)
        raise
redefiner = threading.Thread(target=redefine)
redefiner.start()
threads = [threading.Thread(target=submit) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
stop.set()
redefiner.join()
assert not problems, problems
""", start="e = started(2)\n")


def test_fork_while_another_thread_has_a_lock():
    run_program(IMPORTS + """
cell('''
class C: pass
def f(): return C()
''')
import cloudpickle.cloudpickle
from cfutures import _byvalue
locks = [_byvalue._classes_lock, _byvalue._parcels_lock,
         cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK]
from cfutures import _cells
pid = os.fork() if all(lock.acquire() for lock in locks) else None
if pid == 0:
    os._exit(0 if _cells.describe(f)[0] and len(_cells.dumps(C())) > 100 else 1)
assert os.waitpid(pid, 0)[1] == 0
""", "cfutures", "fork")


def test_pools_in_tasks(notebook):
    notebook("""
cell('''
import multiprocessing
import cfutures
K = 1
class C:
    def __init__(self, x): self.x = x + K
def inner(x): return C(x)
def outer(method, x):
    with cfutures.ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context(method)) as pool:
        c = pool.submit(inner, x).result(20)
        assert type(c) is C
        return [c, *pool.map(lambda y: inner(y), range(2))]
''')
for K in (1, 2):
    found = run(outer, context.get_start_method(), 5)
    assert [type(c) for c in found] == [C] * 3 and [c.x - K for c in found] == [5, 0, 1]
""")


# ---- in IPython --------------------------------------------------------------------------


def test_ipython_cells(method):
    pytest.importorskip("IPython")
    run_program(IMPORTS + """
os.environ['IPYTHONDIR'] = '/nonexistent'
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell
settings = Config()
settings.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=settings)
shell.user_ns.update(cf=cf, context=context, GUARD=GUARD)
def cell(source):
    result = shell.run_cell(source, store_history=True)
    result.raise_error()
    return result.result
assert shell.user_module is sys.modules['__main__']
cell('e = cf.ProcessPoolExecutor(1, mp_context=context); e.submit(abs, 1).result(GUARD)')
cell('K = 4')
cell('class P:\\n    def __init__(self, x): self.x = x + K')
cell('def f(x): return P(x)')
assert cell('p = e.submit(f, 1).result(GUARD); type(p) is P and p.x') == 5
cell('K = 5')
assert cell('[p.x for p in e.map(f, range(3))]') == [5, 6, 7]
cell('def f(x):\\n    return x / 0    # here')
assert 'return x / 0    # here' in cell('str(e.submit(f, 1).exception(GUARD).__cause__)')
cell('e.shutdown()')
""", "cfutures", method)
