"""Exercise 6.2: a set of tasks that grows while it is worked off."""


def solve(futures, read, pages, limit=8):
    """Return {number: read(number)} for all numbers below pages that links lead to from 0."""
    found, known = {}, {0}
    with futures.ThreadPoolExecutor(max_workers=limit) as e:
        asked = {e.submit(read, 0): 0}
        while asked:
            done, _ = futures.wait(asked, return_when=futures.FIRST_COMPLETED)
            for future in done:
                number = asked.pop(future)
                found[number] = future.result()
                # Known from the moment it is asked for, not when its answer is there.
                new = {link for link in found[number] if link < pages} - known
                known |= new
                asked |= {e.submit(read, link): link for link in new}
    return found
