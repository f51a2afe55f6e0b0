"""One measurement in a process of its own: child.py '{"row": …}' prints a JSON line.

Started by driver.py. The CPU pinning comes first, before anything that could start
a thread or read the number of CPUs is imported.
"""
import json
import os
import sys
import time


def pin_to(cpus: list) -> None:
    """Restrict this process to these CPUs; an empty list leaves it as it is."""
    if cpus:
        os.sched_setaffinity(0, cpus)


def main() -> None:
    job = json.loads(sys.argv[1])
    pin_to(job["cpus"])

    import family
    import impls
    from meter import GaveUp, Meter, Skip
    from registry import load_rows

    row = load_rows()[job["row"]]
    cpu = family.cpu_seconds if row.kind != "threads" else time.process_time
    meter = Meter(job["warm_up"], job["enough"], cpu)
    try:
        lib = impls.load(job["impl"], row.kind)
        sample = row.run(lib, meter, **job["params"])
    except (Skip, impls.NotInstalled) as why:
        answer = {"skip": str(why)}
    except GaveUp as why:
        # The pool hangs, and would again at exit.
        print("\n" + json.dumps({"skip": str(why)}), flush=True)
        os._exit(0)
    else:
        answer = {"sample": sample.as_dict(), "gil": impls.gil_enabled()}
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
