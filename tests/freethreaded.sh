#!/bin/bash
# Print the path of a CPython without a GIL, which is built the first time: the newest
# Debian source of python3.13, unpatched (Debian's site.py looks for packages where a build
# of one's own does not have them), in a cache folder.  It takes some minutes, no
# privileges, and the system's settings of apt-get stay as they are.
#
#   CFUTURES_CACHE    where to keep it (default: ~/.cache/cfutures)
#   DEBIAN_MIRROR     where sources come from (default: http://deb.debian.org/debian)
#
# Needed: apt-get, the Debian keys, a C compiler, make, and what pip and the tests import
# (packages zlib1g-dev, libssl-dev, libffi-dev).
set -euo pipefail
version=3.13
suite=trixie        # the Debian release that has this version
keys=/usr/share/keyrings/debian-archive-keyring.gpg
cache=${CFUTURES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cfutures}
prefix=$cache/cpython-${version}t
python=$prefix/bin/python${version}t
# A make that called this one was told things that CPython's Makefile would believe, too.
unset MAKEFLAGS MFLAGS MAKELEVEL

fail() {
    echo "freethreaded.sh: $*" >&2
    exit 1
}

# Sources of its own, in a folder of its own.
apt_here() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

mkdir -p "$cache"
# Two builds at a time would write over each other.
exec 9>"$cache/lock"
flock 9
if [ -e "$prefix/complete" ]; then
    echo "$python"
    exit
fi
rm -rf "$prefix"
command -v apt-get >/dev/null || fail "no apt-get here: name an interpreter yourself"
[ -e $keys ] || fail "$keys is missing (package debian-archive-keyring)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo "Building CPython ${version}t in $prefix"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source" "$work/build"
    echo "deb-src [signed-by=$keys] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} $suite main" \
        >"$work/sources.list"
    { apt_here update && (cd "$work" && apt_here source --download-only python$version); } ||
        fail "the source of python$version cannot be had: name an interpreter yourself"
    tar -xf "$work"/python${version}_*.orig.tar.xz -C "$work/source" --strip-components=1
    cd "$work/build"
    if ! { "$work/source/configure" -q --disable-gil --prefix="$prefix" &&
           make -s -j"$(nproc)" && make -s install; } >"$work/log" 2>&1; then
        tail -n 30 "$work/log"
        fail "the build failed"
    fi
    "$python" -c 'import ctypes, ssl, zlib' ||
        fail "a module is missing: packages zlib1g-dev, libssl-dev, libffi-dev"
    touch "$prefix/complete"
} >&2
echo "$python"
