#!/bin/bash
# Build sdist and wheel, look at what the wheel links to, install it in a new environment and
# run tests there, from a folder outside the checkout.
#
#   tests/wheel_check.sh PYTHON [arguments for pytest]
#
# By default the tests of the public API; those of tests/packaging, docs and notebooks are
# about the checkout.  The wheel is left in build/wheel/.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
python=$1
shift
if [ $# = 0 ]; then
    # What looks into csrc/ or the notebooks is left out.
    set -- tests/test_*.py tests/pool tests/queue tests/isolated
fi

# A version may have no wheel for every interpreter; an older one that has is good enough.
export PIP_PREFER_BINARY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$project/build/wheel"

"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build auditwheel
"$work/tools/bin/python" -m build --outdir "$project/build/wheel" "$project" >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log"; exit 1; }
wheel=$(echo "$project"/build/wheel/*.whl)
"$work/tools/bin/python" -m auditwheel show "$wheel" | tee "$work/shown"
# Else it would need libraries that other machines may not have.
grep -q '"manylinux_' "$work/shown"

"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet "${wheel}[test]"
mkdir "$work/outside"
cp -r "$project/tests" "$project/pyproject.toml" "$work/outside"
cd "$work/outside"
unset PYTHONPATH
"$work/env/bin/python" -c '
import sys, cfutures
assert cfutures.__file__.startswith(sys.prefix), cfutures.__file__
print("tested:", cfutures.__file__)'
"$work/env/bin/python" -m pytest "$@"
