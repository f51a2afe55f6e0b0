"""What a worker does to the memory that it shares with its parent; importable there."""
import os
import random

PAGE = 4096


def _segments():
    """The descriptors of the unnamed files that are a pool's shared memory."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:cfutures ("):
                found.append(int(name))
        except FileNotFoundError:
            continue        # the one that the folder was read with
    return found


def _pages(fd):
    """The places of all pages that were ever written."""
    pages, at = [], 0
    while True:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:     # ENXIO: there is no more data
            return pages
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        pages += range(begin, min(at, begin + 1024 * PAGE), PAGE)


def scribble(seed, how, exits):
    """Write over shared memory, and end the process if it `exits`.

    how: "bits" (single ones, anywhere), "words" (of 32 bits, often small numbers), "pages"
    (whole ones, of zeros or noise) or "first" (all that is before the arenas: the board and
    the slots begin there).
    """
    rng = random.Random(seed)
    for fd in _segments():
        pages = _pages(fd)
        few = [page for page in pages if page < pages[0] + (1 << 20)]
        for _ in range(rng.choice((1, 10, 300)) if how != "first" else 1):
            # The board and the slots are small, and what matters most.
            page = rng.choice(few if rng.random() < 0.7 else pages)
            at = page + rng.randrange(PAGE)
            if how == "bits":
                byte = os.pread(fd, 1, at)[0] ^ (1 << rng.randrange(8))
                os.pwrite(fd, bytes([byte]), at)
            elif how == "words":
                word = rng.choice((0, 1, 2, 0xffffffff, rng.randrange(64), rng.getrandbits(32)))
                os.pwrite(fd, word.to_bytes(4, "little"), at // 4 * 4)
            elif how == "pages":
                os.pwrite(fd, bytes(PAGE) if rng.random() < 0.5 else rng.randbytes(PAGE), page)
            else:
                for each in few:
                    os.pwrite(fd, rng.randbytes(PAGE), each)
    if exits:
        os._exit(9)
