"""Exercise 2: convert all files with map, one whole file a task."""

import threading


def solve(futures, paths, parse, write, workers=2):
    """Parse and write every file; return {symbol: number of rows}."""
    hdf5 = threading.Lock()

    def convert(path):
        frame = parse(path)
        # HDF5 is not thread-safe: one thread at a time, and only for the writing.
        with hdf5:
            write(frame, path.stem)
        return path.stem, len(frame)

    with futures.ThreadPoolExecutor(max_workers=workers) as e:
        return dict(e.map(convert, paths))
