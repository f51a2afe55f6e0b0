"""Blocks of an arena: allocated by one process, adopted and returned by others, which may
be killed at any step (csrc/ipc/arena.c and block.c).

A message is modelled as far as it concerns its block: the owner posts it to a receiver,
which takes it, adopts the block or not, and says that it is done.  The books of the owner
are private and change together with the last step of what they record.  `using` is who
still looks at a block's bytes; it exists only here, and to free or to allocate what
somebody looks at is wrong.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

FREE, LIVE, HELD, RETURNED = "FREE", "LIVE", "HELD", "RETURNED"
CLAIMED, USED, BACK = "CLAIMED", "USED", "BACK"
NOBODY = -1

MUTATIONS = (
    "linked after the push",
    "returned without a compare-and-swap",
    "no turns",
    "the holder is forgotten when it is returned",
    "reclaimed before the stack is collected",
    "what was returned is not reclaimed",
    "released although it was adopted",
    "used again before its message has ended",
    "a late return looks at the next use",
    "an adopted block has no holder",
    "the stack is read and then emptied",
)


def same(mutations, word, expected):
    """Does the compare-and-swap succeed?"""
    if "no turns" in mutations:
        return word[:2] == expected[:2]
    return word == expected


class Returner(Program):
    """cf_block_return() of block `p.block`, after which it goes on at `p.then`."""

    def give_look(self, g, p):
        """cf_block_return: load word"""
        p.word = g.words[p.block]
        return "give" if p.word[0] in (LIVE, HELD) else self.returned(g, p)

    def give(self, g, p):
        """cf_block_return: compare-and-swap the word to RETURNED"""
        word = g.words[p.block]
        if "returned without a compare-and-swap" not in self.mutations \
                and not same(self.mutations, word, p.word):
            if word[2] != p.word[2] and "a late return looks at the next use" \
                    not in self.mutations:
                return self.returned(g, p)
            p.word = word
            return "give" if word[0] in (LIVE, HELD) else self.returned(g, p)
        holder = p.word[1]
        if "the holder is forgotten when it is returned" in self.mutations:
            holder = NOBODY
        g.words = put(g.words, p.block, (RETURNED, holder, word[2]))
        return "top"

    def top(self, g, p):
        """cf_block_return: load returned"""
        p.top = g.top
        return "push" if "linked after the push" in self.mutations else "link"

    def link(self, g, p):
        """cf_block_return: store next"""
        g.next = put(g.next, p.block, p.top)
        if "linked after the push" in self.mutations:
            return self.returned(g, p)
        return "push"

    def push(self, g, p):
        """cf_block_return: compare-and-swap returned"""
        if g.top != p.top:
            p.top = g.top
            return "push" if "linked after the push" in self.mutations else "link"
        g.top = p.block
        if "linked after the push" in self.mutations:
            return "link"
        return self.returned(g, p)

    def returned(self, g, p):
        p.block, p.top, p.word = NOBODY, NOBODY, None
        return p.then


class Receiver(Returner):
    """Takes messages, keeps at most one block beyond its message.

    results: it does not adopt but returns (as the parent does with a worker's blocks), and
    does not die; mortal: it may be killed at any step.
    """

    start = "idle"

    def __init__(self, name, mutations, number, results, mortal):
        super().__init__(name, mutations, block=NOBODY, top=NOBODY, word=None, then="idle",
                         kept=NOBODY)
        self.number = number
        self.results = results
        self.mortal = mortal

    def steps(self, label):
        names = [label]
        if label == "idle":
            names = ["take", "give_back", "leave"]
        elif label == "read" and not self.results:
            names = ["read", "adopt_look"]
        if self.mortal:
            names.append("die")
        return [(name, getattr(self, name)) for name in names]

    def die(self, g, p):
        """SIGKILL"""
        g.using = tuple(NOBODY if user == self.number else user for user in g.using)
        g.dead = put(g.dead, self.number, True)
        p.block, p.top, p.word, p.kept = NOBODY, NOBODY, None, NOBODY
        return END

    def take(self, g, p):
        """take a message"""
        what, block = g.slots[self.number]
        if what != "posted":
            return None
        g.slots = put(g.slots, self.number, ("taken", block))
        g.using = put(g.using, block, self.number)
        p.block = block
        return "read"

    def leave(self, g, p):
        """(no more will come)"""
        return END if g.closed and p.kept == NOBODY else None

    def give_back(self, g, p):
        """the last view is gone"""
        if p.kept == NOBODY:
            return None
        p.block, p.kept = p.kept, NOBODY
        g.using = put(g.using, p.block, NOBODY)
        return "give_look"

    def give_look(self, g, p):
        """cf_block_return: load word"""
        if not g.twice:
            g.twice = (p.block, g.words[p.block])
        return super().give_look(g, p)

    def read(self, g, p):
        """read, and keep nothing"""
        g.using = put(g.using, p.block, NOBODY)
        if self.results:
            p.then = "done"
            return "give_look"
        return "done"

    def adopt_look(self, g, p):
        """cf_block_adopt: load word"""
        if p.kept != NOBODY:
            return None
        p.word = g.words[p.block]
        require(p.word[0] == LIVE, "a message with a block that is not LIVE")
        return "adopt"

    def adopt(self, g, p):
        """cf_block_adopt: compare-and-swap the word to HELD"""
        require(same(self.mutations, g.words[p.block], p.word), "adopted by somebody else")
        holder = self.number
        if "an adopted block has no holder" in self.mutations:
            holder = NOBODY
        g.words = put(g.words, p.block, (HELD, holder, p.word[2]))
        p.kept, p.word = p.block, None
        return "done"

    def done(self, g, p):
        """say that the message is done"""
        p.block, p.then = NOBODY, "idle"
        g.slots = put(g.slots, self.number, ("done", g.slots[self.number][1]))
        return "idle"


class Rival(Returner):
    """Returns, wrongly, the block that a receiver is the first to give back, too; both look
    at the word before one of them changes it.  (One that looks later cannot know that the
    block is not its own any more.)"""

    start = "wait"

    def __init__(self, name, mutations):
        super().__init__(name, mutations, block=NOBODY, top=NOBODY, word=None, then=END)

    def steps(self, label):
        if label == "wait":
            return [("wait", self.wait), ("leave", self.leave)]
        return super().steps(label)

    def wait(self, g, p):
        """cf_block_return: load word, of a block that another thread returns"""
        if not g.twice or g.words[g.twice[0]] != g.twice[1]:
            return None
        p.block, p.word = g.twice
        return "give"

    def leave(self, g, p):
        """(it comes too late)"""
        return END


class Owner(Program):
    """Allocates, sends, releases; buries receivers."""

    start = "idle"

    def __init__(self, name, mutations, blocks, sends, receivers, results):
        super().__init__(
            name, mutations, free=tuple(range(blocks)), use=(USED,) * blocks,
            turns=(0,) * blocks, left=sends,
            block=NOBODY, to=NOBODY, chain=NOBODY, at=NOBODY, then="",
            buried=(False,) * receivers)
        self.blocks = blocks
        self.receivers = receivers
        self.results = results

    def steps(self, label):
        if label != "idle":
            return super().steps(label)
        choices = [("close", self.close), ("look", self.look)]
        for i in range(self.receivers):
            for name in "send", "release", "bury":
                step = getattr(self, name)

                def of_one(g, p, i=i, step=step):
                    return step(g, p, i)

                of_one.__doc__ = f"{name} {i}"
                setattr(self, f"{name} {i}", of_one)
                choices.append((f"{name} {i}", of_one))
        return choices

    # the owner's books: `free` is a list, `use` says more of those that are not in it

    def come_back(self, g, p, block):
        if p.use[block] == CLAIMED:
            p.use = put(p.use, block, BACK)
        else:
            self.put_free(g, p, block)

    def put_free(self, g, p, block):
        require(g.using[block] == NOBODY, "a block is freed while somebody looks at it")
        require(block not in p.free, "a block is freed twice")
        p.free = (block, *p.free)

    def is_out(self, p, block):
        return block not in p.free and p.use[block] != BACK

    # cf_arena_alloc()

    def send(self, g, p, to):
        if not p.left or g.slots[to][0] != "empty" or g.dead[to]:
            return None
        p.to, p.then = to, "alloc"
        p.left -= 1
        return "alloc" if p.free else "collect"

    def alloc(self, g, p):
        """cf_arena_alloc: store word"""
        if not p.free:
            # Full: it goes by another way.
            p.left += 1
            p.to, p.then = NOBODY, ""
            return "idle"
        block, p.free = p.free[0], p.free[1:]
        require(g.using[block] == NOBODY, "a block is allocated that somebody looks at")
        p.turns = put(p.turns, block, (p.turns[block] + 1) % 3)
        if not self.results and "used again before its message has ended" \
                not in self.mutations:
            p.use = put(p.use, block, CLAIMED)
        g.words = put(g.words, block, (LIVE, NOBODY, p.turns[block]))
        p.block, p.then = block, ""
        return "post"

    def post(self, g, p):
        """post the message"""
        g.slots = put(g.slots, p.to, ("posted", p.block))
        p.to, p.block = NOBODY, NOBODY
        return "idle"

    # collect()

    def collect(self, g, p):
        """collect: exchange returned"""
        p.chain = g.top
        if "the stack is read and then emptied" in self.mutations:
            return "collect_empty"
        g.top = NOBODY
        return "collect_one"

    def collect_empty(self, g, p):
        """collect: store returned"""
        g.top = NOBODY
        return "collect_one"

    def collect_one(self, g, p):
        """collect: load word and next, store word"""
        block = p.chain
        if block == NOBODY:
            return p.then
        state, _, turn = g.words[block]
        if not self.is_out(p, block) or state != RETURNED or turn != p.turns[block]:
            p.chain = NOBODY
            return p.then
        p.chain = g.next[block]
        g.words = put(g.words, block, (FREE, NOBODY, turn))
        self.come_back(g, p, block)
        return "collect_one"

    # the end of a message

    def take_back(self, g, p, block):
        """(cf_arena_release)"""
        if block in p.free:
            return
        word = g.words[block]
        adopted = "released although it was adopted" in self.mutations and word[0] == HELD
        back = p.use[block] == BACK
        p.use = put(p.use, block, USED)
        if back:
            self.put_free(g, p, block)
        elif word[2] == p.turns[block] and (word[0] == LIVE or adopted):
            g.words = put(g.words, block, (FREE, NOBODY, word[2]))
            self.put_free(g, p, block)

    def release(self, g, p, i):
        what, block = g.slots[i]
        if what != "done":
            return None
        g.slots = put(g.slots, i, ("empty", NOBODY))
        if not self.results:
            self.take_back(g, p, block)
        return "idle"

    # cf_arena_reclaim()

    def bury(self, g, p, i):
        if not g.dead[i] or p.buried[i]:
            return None
        p.buried = put(p.buried, i, True)
        p.to, p.at, p.then = i, 0, "reclaim_one"
        what, block = g.slots[i]
        if what != "empty":
            # Its task has failed: so is its message done.  What it adopted stays.
            g.slots = put(g.slots, i, ("empty", NOBODY))
            self.take_back(g, p, block)
        if "reclaimed before the stack is collected" in self.mutations:
            return "reclaim_one"
        return "collect"

    def reclaim_one(self, g, p):
        """cf_arena_reclaim: load word, store word"""
        state, holder, turn = g.words[p.at]
        states = (HELD,) if "what was returned is not reclaimed" in self.mutations \
            else (HELD, RETURNED)
        if self.is_out(p, p.at) and state in states and holder == p.to \
                and turn == p.turns[p.at]:
            g.words = put(g.words, p.at, (FREE, NOBODY, turn))
            self.come_back(g, p, p.at)
        p.at += 1
        if p.at < self.blocks:
            return "reclaim_one"
        p.to, p.at, p.then = NOBODY, NOBODY, ""
        return "idle"

    # the end

    def close(self, g, p):
        """close"""
        if g.closed or (p.left and not all(g.dead)) \
                or any(what != "empty" for what, _ in g.slots):
            return None
        g.closed = True
        return "idle"

    def look(self, g, p):
        """(there is something on the stack)"""
        if g.top == NOBODY or not g.closed:
            return None
        p.then = "idle"
        return "collect"


class Arena(Model):
    """blocks; sends: messages in all; receivers; mortal: how many of them can be killed;
    results: see Receiver; rival: somebody returns a block twice."""

    def __init__(self, blocks, sends, receivers, mortal=0, results=False, rival=False,
                 mutations=()):
        m = frozenset(mutations)
        self.blocks = blocks
        programs = [Owner("owner", m, blocks, sends, receivers, results)]
        programs += [Receiver(f"receiver {i}", m, i, results, i < mortal)
                     for i in range(receivers)]
        if rival:
            programs.append(Rival("rival", m))
        super().__init__(
            programs, words=((FREE, NOBODY, 0),) * blocks, next=(NOBODY,) * blocks,
            top=NOBODY, slots=(("empty", NOBODY),) * receivers,
            using=(NOBODY,) * blocks, dead=(False,) * receivers, closed=False, twice=())

    def at_rest(self, g, threads):
        owner, *others = threads
        require(owner.pc == "idle" and g.closed, f"the owner hangs at {owner.pc}")
        require(all(t.pc == END for t in others), "somebody hangs")
        require(len(owner.free) == self.blocks, "a block is lost")
        require(all(word[0] == FREE for word in g.words), "a free block is not FREE")
