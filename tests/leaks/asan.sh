# The engine's tests on a build of cfutures with AddressSanitizer (and LeakSanitizer) and
# UndefinedBehaviorSanitizer; `make test-asan` calls it.
#
#   CC=cc CFUTURES_CFLAGS=... sh tests/leaks/asan.sh BUILD pytest-arguments
#
# BUILD: the folder of the build.  What a sanitizer finds in any process, also in one that
# nobody looks at, is left in BUILD/reports, and makes this fail.
build=$(realpath "$1")
shift
rm -rf "$build/reports"
mkdir "$build/reports"

# The interpreter is not built for them, so they come first.
LD_PRELOAD="$($CC -print-file-name=libasan.so) $($CC -print-file-name=libubsan.so)"
# handle_...=0: tests let workers crash, and faulthandler says where.
# allocator_may_return_null: tests ask for more memory than there is.
ASAN_OPTIONS="log_path=$build/reports/asan:allocator_may_return_null=1"
ASAN_OPTIONS="$ASAN_OPTIONS:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0"
ASAN_OPTIONS="$ASAN_OPTIONS:handle_sigfpe=0"
UBSAN_OPTIONS="print_stacktrace=1:log_path=$build/reports/ubsan"
PYTHONPATH=$(dirname "$0")

# Left out: spawn, which differs from forkserver only in how a process starts, and that takes
# a second here; and what limits its address space, which the shadow memory alone exceeds.
LEFT_OUT="not spawn and not test_arena_full"

run() {
    env LD_PRELOAD="$LD_PRELOAD" ASAN_OPTIONS="$ASAN_OPTIONS" UBSAN_OPTIONS="$UBSAN_OPTIONS" \
        PYTHONPATH="$PYTHONPATH" "$@"
}

failed=0
# Status 5: no test was chosen.
# Not for leaks: children of tests end in the middle of things, and CPython gives nothing back
# then.  For those there are programs that end in peace.
run PYTHONMALLOC=malloc ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0" \
    "$build/venv/bin/python" -m pytest -p forks --forks none -k "$LEFT_OUT" "$@" || [ $? = 5 ] || failed=1
run ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0" \
    "$build/venv/bin/python" -m pytest -p forks --forks only -k "$LEFT_OUT" "$@" || [ $? = 5 ] || failed=1
for kind in threads processes pool queue; do
    run PYTHONMALLOC=malloc "$build/venv/bin/python" "$(dirname "$0")/soak.py" \
        $kind 20 forkserver > "$build/soak-$kind.json" || failed=1
done

if [ -n "$(ls "$build/reports")" ]; then
    head -n 40 "$build"/reports/*
    failed=1
fi
exit $failed
