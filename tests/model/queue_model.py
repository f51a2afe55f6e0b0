"""The queue between processes (csrc/ipc/queue.c, queue_members.c): the order, in which any
process may be killed at any step, and sleeping until it changes.

`Order`: a small ring, producers with some blocks each, consumers, and undertakers, which look
after the dead (in the code any member does).  An entry is (state, lap, block, taker); a block
(state, holder).  What is returned is free at once: block_model.py has that part.  `puts` and
`takes` count positions; they and `using`, who looks at a block's bytes, exist only here.

At least one consumer must be immortal, or nobody would take what is left.

`Sleep`: one word, its sleepers, and no deaths: wake-ups that die with a process are made good
by sleepers that look by themselves, which is left out here.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

EMPTY, ITEM, TAKEN = "EMPTY", "ITEM", "TAKEN"
FREE, LIVE, HELD = "FREE", "LIVE", "HELD"
JOINED, DEAD, BURYING, GONE = "JOINED", "DEAD", "BURYING", "GONE"
NOBODY = -1

MUTATIONS = (
    "the tail is stored",
    "the head is stored",
    "put without a compare-and-swap",
    "taken without a compare-and-swap",
    "a take does not say who",
    "no laps",
    "others do not move the tail",
    "others do not move the head",
    "the entry is free before the block is adopted",
    "the bound is not looked at again",
    "what the dead were taking stays",
    "what the dead held stays",
    "an item of the dead is not looked for",
    "who holds a block of the dead is not looked for",
)


class Member(Program):
    """What all of them can do: be killed."""

    def __init__(self, name, mutations, number, mortal, **local):
        super().__init__(name, mutations, **local)
        self.number = number
        self.mortal = mortal

    def steps(self, label):
        names = [label, "die"] if self.mortal else [label]
        return [(name, getattr(self, name)) for name in names]

    def die(self, g, p):
        """SIGKILL"""
        g.using = tuple(NOBODY if user == self.number else user for user in g.using)
        g.records = put(g.records, self.number,
                        (DEAD if g.records[self.number][0] == JOINED
                         else g.records[self.number][0], g.records[self.number][1]))
        g.dead = put(g.dead, self.number, True)
        g.going -= isinstance(self, Producer)
        vars(p).update(self.local)
        return END

    # -- the order --

    def look(self, g, position):
        """What the entry of a position says: FREE, PUT, PASSED, BEFORE or AFTER."""
        entry = g.entries[position % len(g.entries)]
        lap = position // len(g.entries)
        if entry[0] == EMPTY:
            known = entry[1] <= lap or "no laps" in self.mutations
            return ("FREE" if known else "PASSED"), entry
        if entry[1] != lap and "no laps" not in self.mutations:
            return ("AFTER" if entry[1] > lap else "BEFORE"), entry
        return ("PUT" if entry[0] == ITEM else "PASSED"), entry

    def swap_entry(self, g, position, was, to):
        index = position % len(g.entries)
        if g.entries[index] != was:
            return False
        g.entries = put(g.entries, index, to)
        return True


class Producer(Member):
    """Puts `count` items, one of its blocks each."""

    start = "allocate"

    def __init__(self, name, mutations, number, mortal, count, bound):
        super().__init__(name, mutations, number, mortal, left=count, block=NOBODY, tail=NOBODY,
                         head=NOBODY, entry=None)
        self.bound = bound

    def allocate(self, g, p):
        """cf_arena_alloc"""
        for block, (state, _) in enumerate(g.blocks):
            if state == FREE and g.owner[block] == self.number:
                require(g.using[block] == NOBODY, "allocated while somebody looks at it")
                g.blocks = put(g.blocks, block, (LIVE, NOBODY))
                p.block = block
                return "load_tail"
        return None

    def load_tail(self, g, p):
        """cf_queue_put: load tail"""
        p.tail = g.tail
        return "load_entry"

    def load_entry(self, g, p):
        """cf_queue_put: load entry"""
        view, p.entry = self.look(g, p.tail)
        if view == "FREE":
            return "load_head"
        if view == "BEFORE":
            return "wait"
        return "wait_for_mover" if "others do not move the tail" in self.mutations \
            else "help_tail"

    def wait_for_mover(self, g, p):
        """(wait until somebody has moved the tail)"""
        return "load_tail" if g.tail != p.tail else None

    def wait(self, g, p):
        """(wait for room)"""
        return "load_tail"

    def help_tail(self, g, p):
        """cf_queue_put: compare-and-swap tail, for another one"""
        self.move_tail(g, p)
        return "load_tail"

    def move_tail(self, g, p):
        if g.tail == p.tail or "the tail is stored" in self.mutations:
            g.tail = p.tail + 1

    def load_head(self, g, p):
        """has_room: load head"""
        p.head = g.head
        if p.tail - p.head < self.bound:
            return "put"
        if "the bound is not looked at again" in self.mutations:
            return "put"
        return "load_first"

    def load_first(self, g, p):
        """advance: load the entry at the head"""
        view, _ = self.look(g, p.head)
        if view in ("FREE", "PUT", "BEFORE") or "others do not move the head" in self.mutations:
            return "wait"
        return "help_head"

    def help_head(self, g, p):
        """advance: compare-and-swap head"""
        if g.head == p.head or "the head is stored" in self.mutations:
            g.head = p.head + 1
        return "load_head"

    def put(self, g, p):
        """cf_queue_put: compare-and-swap the entry to ITEM"""
        lap = p.tail // len(g.entries)
        if "put without a compare-and-swap" in self.mutations:
            p.entry = g.entries[p.tail % len(g.entries)]
        if not self.swap_entry(g, p.tail, p.entry, (ITEM, lap, p.block, NOBODY)):
            p.entry = None
            return "load_tail"
        require(p.tail == g.puts, "an item got into the order where it does not belong")
        g.puts += 1
        require(g.puts - g.takes <= self.bound, "more items than there may be")
        p.block, p.entry, p.left = NOBODY, None, p.left - 1
        return "own_tail"

    def own_tail(self, g, p):
        """cf_queue_put: compare-and-swap tail"""
        self.move_tail(g, p)
        p.tail = p.head = NOBODY
        g.going -= not p.left
        return "allocate" if p.left else END


class Taker(Member):
    """What a consumer does with an entry that is TAKEN by it, and an undertaker, too."""

    def adopt(self, g, p):
        """cf_item_adopt: compare-and-swap the block to HELD"""
        if "the entry is free before the block is adopted" in self.mutations:
            require(g.blocks[p.block] == (LIVE, NOBODY), "adopted, and is not LIVE")
        if g.blocks[p.block] == (LIVE, NOBODY):
            g.blocks = put(g.blocks, p.block, (HELD, self.number))
        else:
            require(p.lost, "taken, and its block is not LIVE")
            p.block = NOBODY
        if "the entry is free before the block is adopted" in self.mutations:
            return self.use(g, p)
        return "free_entry"

    def free_entry(self, g, p):
        """cf_queue_receive: store the entry, EMPTY"""
        lap = p.head // len(g.entries)
        g.entries = put(g.entries, p.head % len(g.entries), (EMPTY, lap + 1, NOBODY, NOBODY))
        if "the entry is free before the block is adopted" in self.mutations:
            return "adopt"
        return self.use(g, p)

    def use(self, g, p):
        if p.block == NOBODY:
            return self.taken(g, p)
        g.using = put(g.using, p.block, self.number)
        return "give_back"

    def give_back(self, g, p):
        """cf_block_return"""
        require(g.blocks[p.block] == (HELD, self.number), "returned by somebody else")
        g.using = put(g.using, p.block, NOBODY)
        g.blocks = put(g.blocks, p.block, (FREE, NOBODY))
        return self.taken(g, p)


class Consumer(Taker):
    """Takes items until no more will come."""

    start = "load_head"

    def __init__(self, name, mutations, number, mortal):
        super().__init__(name, mutations, number, mortal, head=NOBODY, block=NOBODY, entry=None,
                         lost=False)

    def steps(self, label):
        found = super().steps(label)
        return [("leave", self.leave), *found] if label == "load_head" else found

    def leave(self, g, p):
        """(no more will come)"""
        view, _ = self.look(g, g.head)
        return END if g.going == 0 and view == "FREE" else None

    def load_head(self, g, p):
        """cf_queue_take: load head"""
        p.head = g.head
        return "load_entry"

    def load_entry(self, g, p):
        """cf_queue_take: load entry"""
        view, p.entry = self.look(g, p.head)
        if view == "PUT":
            return "take"
        if view == "PASSED":
            if "others do not move the head" in self.mutations:
                return "wait_for_mover"
            return "help_head"
        p.head, p.entry = NOBODY, None
        return "load_head"

    def wait_for_mover(self, g, p):
        """(wait until somebody has moved the head)"""
        return "load_head" if g.head != p.head else None

    def help_head(self, g, p):
        """cf_queue_take: compare-and-swap head, for another one"""
        self.move_head(g, p)
        p.head, p.entry = NOBODY, None
        return "load_head"

    def move_head(self, g, p):
        if g.head == p.head or "the head is stored" in self.mutations:
            g.head = p.head + 1

    def take(self, g, p):
        """cf_queue_take: compare-and-swap the entry to TAKEN"""
        who = NOBODY if "a take does not say who" in self.mutations else self.number
        to = (TAKEN, p.entry[1], p.entry[2], who)
        if "taken without a compare-and-swap" in self.mutations:
            g.entries = put(g.entries, p.head % len(g.entries), to)
        elif not self.swap_entry(g, p.head, p.entry, to):
            p.head, p.entry = NOBODY, None
            return "load_head"
        require(p.head == g.takes, "an item was taken before its time, or twice")
        g.takes += 1
        p.block, p.entry = p.entry[2], None
        return "own_head"

    def own_head(self, g, p):
        """cf_queue_take: compare-and-swap head"""
        self.move_head(g, p)
        return "free_entry" if "the entry is free before the block is adopted" \
            in self.mutations else "adopt"

    def taken(self, g, p):
        p.head = p.block = NOBODY
        return "load_head"


class Undertaker(Taker):
    """Looks after the dead; when there are none it rests."""

    start = "look_round"

    def __init__(self, name, mutations, number, mortal):
        super().__init__(name, mutations, number, mortal, of=NOBODY, head=NOBODY, index=0,
                         block=NOBODY, lost=True, last=NOBODY)

    def look_round(self, g, p):
        """cf_queue_tend: load records; compare-and-swap one to BURYING"""
        count = len(g.records)
        for number in range(p.last + 1, p.last + 1 + count):
            number %= count
            state, by = g.records[number]
            if state == DEAD or (state == BURYING and g.dead[by]):
                g.records = put(g.records, number, (BURYING, self.number))
                p.of, p.last, p.index = number, number, 0
                return "scan"
        p.last = NOBODY
        return None

    def scan(self, g, p):
        """take_over: load entry; compare-and-swap it to TAKEN by this one"""
        if p.index == len(g.entries) or "what the dead were taking stays" in self.mutations:
            p.index = 0
            return "return_held"
        entry = g.entries[p.index]
        if entry[0] == TAKEN and entry[3] == p.of:
            g.entries = put(g.entries, p.index, (TAKEN, entry[1], entry[2], self.number))
            p.head = entry[1] * len(g.entries) + p.index
            p.block = entry[2]
            return "adopt"
        p.index += 1
        return "scan"

    def taken(self, g, p):
        p.head = p.block = NOBODY
        p.index += 1
        return "scan"

    def return_held(self, g, p):
        """return_held: compare-and-swap a block of the dead one's"""
        for block, word in enumerate(g.blocks):
            if word == (HELD, p.of) and "what the dead held stays" not in self.mutations:
                require(g.using[block] == NOBODY, "returned while somebody looks at it")
                g.blocks = put(g.blocks, block, (FREE, NOBODY))
                return "return_held"
        return "look_for_items"

    def look_for_items(self, g, p):
        """is_not_in_arena: load entry"""
        if p.index == len(g.entries) or "an item of the dead is not looked for" \
                in self.mutations:
            p.index = 0
            return "look_for_holders"
        entry = g.entries[p.index]
        if entry[0] in (ITEM, TAKEN) and g.owner[entry[2]] == p.of:
            return self.not_yet(g, p)
        p.index += 1
        return "look_for_items"

    def look_for_holders(self, g, p):
        """is_held: load word"""
        if p.index == len(g.blocks) or "who holds a block of the dead is not looked for" \
                in self.mutations:
            return "clear"
        state, holder = g.blocks[p.index]
        if g.owner[p.index] == p.of and state == HELD and not g.dead[holder]:
            return self.not_yet(g, p)
        p.index += 1
        return "look_for_holders"

    def not_yet(self, g, p):
        g.records = put(g.records, p.of, (DEAD, NOBODY))
        p.of, p.index = NOBODY, 0
        return "look_round"

    def clear(self, g, p):
        """cf_arena_clear, and the number is free"""
        for block, owner in enumerate(g.owner):
            if owner == p.of:
                require(g.using[block] == NOBODY, "cleared while somebody looks at it")
                require(not any(entry[0] in (ITEM, TAKEN) and entry[2] == block
                                for entry in g.entries), "cleared with an item in it")
                g.blocks = put(g.blocks, block, (FREE, NOBODY))
        g.records = put(g.records, p.of, (GONE, NOBODY))
        p.of, p.index = NOBODY, 0
        return "look_round"


class Order(Model):
    """producers: how many items each puts; mortal: producers, consumers, undertakers that may
    be killed (the first ones of each kind)."""

    def __init__(self, producers=(1,), consumers=1, undertakers=0, mortal=(0, 0, 0), ring=2,
                 bound=2, blocks=1, broken=()):
        broken = frozenset(broken)
        assert broken <= set(MUTATIONS)
        programs, owner = [], []
        for i, count in enumerate(producers):
            programs.append(Producer(f"producer {i}", broken, len(programs), i < mortal[0],
                                     count, bound))
            owner += [i] * blocks
        for i in range(consumers):
            programs.append(Consumer(f"consumer {i}", broken, len(programs), i < mortal[1]))
        for i in range(undertakers):
            programs.append(Undertaker(f"undertaker {i}", broken, len(programs),
                                       i < mortal[2]))
        super().__init__(
            programs, entries=((EMPTY, 0, NOBODY, NOBODY),) * ring, tail=0, head=0,
            blocks=((FREE, NOBODY),) * len(owner), owner=tuple(owner),
            using=(NOBODY,) * len(owner), records=((JOINED, NOBODY),) * len(programs),
            dead=(False,) * len(programs), puts=0, takes=0, going=len(producers))

    def invariant(self, g, threads):
        require(g.head <= g.puts and g.tail <= g.puts, "moved on too far")
        require(g.puts - g.tail <= 1 and g.takes - g.head <= 1, "left behind")

    def at_rest(self, g, threads):
        for program, thread in zip(self.programs, threads, strict=True):
            waits = isinstance(program, Undertaker) and thread.pc == "look_round"
            require(thread.pc == END or waits, f"{program.name} is held up")
        require(g.takes == g.puts, "an item is lost")
        if any(isinstance(program, Undertaker) and not g.dead[program.number]
               for program in self.programs):
            require(all(state in (GONE, JOINED) for state, _ in g.records),
                    "somebody is not buried")
            for word, owner in zip(g.blocks, g.owner, strict=True):
                # A block that its live owner has not put yet is not lost.
                require(word[0] == FREE or g.dead[owner], "a block is lost")


# ---- sleeping ----

SLEEP_MUTATIONS = (
    "looks before it says that it sleeps",
    "wakes before it puts",
    "the word is cleared without waking",
    "the count stays",
    "who leaves passes nothing on",
)


class Sleeper(Program):
    """A consumer of one item, asleep until there is one; it may be interrupted."""

    start = "take"

    def __init__(self, name, mutations, number, leaves):
        super().__init__(name, mutations, word=None)
        self.number = number
        self.leaves = leaves

    def steps(self, label):
        names = [label]
        if self.leaves and label in ("woken", "asleep"):
            names = [*names, "interrupt"]
        return [(name, getattr(self, name)) for name in names]

    def take(self, g, p):
        """cf_queue_take"""
        if g.items == 0:
            return "look_early" if "looks before it says that it sleeps" in self.mutations \
                else "say"
        g.items -= 1
        return END

    def look_early(self, g, p):
        """(look before saying anything)"""
        return "take" if g.items else "say"

    def say(self, g, p):
        """cf_queue_sleep: load the word"""
        p.word = g.word
        return "set"

    def set(self, g, p):
        """cf_queue_sleep: compare-and-swap the word, SLEEPERS"""
        if not p.word[1]:
            if g.word != p.word:
                return "say"
            g.word = p.word = (p.word[0], True)
        return "sleep" if "looks before it says that it sleeps" in self.mutations else "look"

    def look(self, g, p):
        """cf_queue_sleep: ready?"""
        return "take" if g.items else "sleep"

    def sleep(self, g, p):
        """cf_wait32"""
        if g.word != p.word:
            return "woken"
        g.asleep = (*g.asleep, self.number)
        return "asleep"

    def asleep(self, g, p):
        """(it was woken)"""
        return None if self.number in g.asleep else "woken"

    def woken(self, g, p):
        """cf_queue_sleep: try again"""
        p.word = None
        return "take"

    def interrupt(self, g, p):
        """KeyboardInterrupt"""
        if self.number in g.asleep:
            g.asleep = tuple(n for n in g.asleep if n != self.number)
        p.word = None
        return END if "who leaves passes nothing on" in self.mutations else "pass_on"

    def pass_on(self, g, p):
        """cf_queue_pass_on: ready?"""
        return "notify" if g.items else END

    # -- notify(), of a producer, too --

    def notify(self, g, p):
        """notify: load the word"""
        p.word = g.word
        return "wake" if p.word[1] else self.notified(g, p)

    def wake(self, g, p):
        """cf_wake32, one"""
        if not g.asleep:
            return "clear"
        g.asleep = g.asleep[1:]
        return self.notified(g, p)

    def clear(self, g, p):
        """notify: compare-and-swap the word, no SLEEPERS"""
        if g.word != p.word:
            return self.notified(g, p)
        g.word = (p.word[0] + ("the count stays" not in self.mutations), False)
        if "the word is cleared without waking" in self.mutations:
            return self.notified(g, p)
        return "wake_all"

    def wake_all(self, g, p):
        """cf_wake32, all"""
        g.asleep = ()
        return self.notified(g, p)

    def notified(self, g, p):
        p.word = None
        return END


class Waker(Sleeper):
    """Puts items."""

    start = "put"

    def __init__(self, name, mutations, count):
        Program.__init__(self, name, mutations, word=None, left=count)
        self.leaves = False
        if "wakes before it puts" in mutations:
            self.start = "notify"

    def put(self, g, p):
        """cf_queue_put: compare-and-swap the entry to ITEM"""
        g.items += 1
        if "wakes before it puts" in self.mutations:
            p.left -= 1
            return "notify" if p.left else END
        return "notify"

    def notified(self, g, p):
        p.word = None
        if "wakes before it puts" in self.mutations:
            return "put"
        p.left -= 1
        return "put" if p.left else END


class Sleep(Model):
    """`sleepers` wait for an item each, `leaving` of them may be interrupted; `puts`: how
    many items each producer puts."""

    def __init__(self, sleepers=1, leaving=0, puts=(1,), broken=()):
        broken = frozenset(broken)
        assert broken <= set(SLEEP_MUTATIONS)
        super().__init__(
            [Sleeper(f"consumer {i}", broken, i, i < leaving) for i in range(sleepers)]
            + [Waker(f"producer {i}", broken, count) for i, count in enumerate(puts)],
            items=0, word=(0, False), asleep=())

    def at_rest(self, g, threads):
        require(g.items == 0 or not g.asleep, "somebody sleeps, and there is an item")
        for program, thread in zip(self.programs, threads, strict=True):
            require(thread.pc in (END, "asleep"), f"{program.name} is held up")
