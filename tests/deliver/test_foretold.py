"""What a lane is said to do next is what it does, and then: exact, with a clock of the test's.

200 jobs in random states; what keeps each is asked as ``mta why`` asks.  Then time goes to
the first moment that was told, and not one job may go before, nor another one then.
"""

from __future__ import annotations

from random import Random

import pytest

from mta.deliver import questions
from mta.deliver.flags import parse
from mta.deliver.questions import Questions, read_answer
from mta.deliver.rules import Rules
from mta.policy.select import Ages
from mta.spool.entry import HOLD, Note
from mta.types import HOST, Outcome, Reply
from mta.values import replace
from mta.waiting import BUSY, outlook
from tests.deliver.fakes import EPOCH
from tests.deliver.test_lane import DOWN, GREY, NO, OK, OURS, House
from tests.queued import new_config

JOBS, HOSTS, STEPS, MOMENTS = 200, 30, 200, 6
HOUR = 3600.0
EXACT = 1e-3  # the clock of the test has microseconds to spare, ids have one
LATE = Outcome(Reply(451, "4.4.1", "timed out"), HOST)


class Told:
    """A lane with jobs in random states, and what is said of them."""

    def __init__(self, seed, monkeypatch, tmp_path):
        self.random = Random(seed)
        self.config = new_config(tmp_path)
        draw = self.random
        ages = draw.choice([Ages(), Ages(), Ages(younger=24 * HOUR), Ages(older=12 * HOUR)])
        self.house = House(
            rules=Rules(ages),
            concurrency=draw.choice([3, 20, 400]),
            per_host=draw.choice([1, 2, 400]),
            dead_ttl=draw.choice([900.0, 7200.0]),
            max_share=draw.choice([0.5, 1.0]),
        )
        self.answers = []
        monkeypatch.setattr(questions, "tell", lambda *words: self.answers.append(words[2]))
        self.asker = Questions("run", self.house.spool, parse(["-b"]))
        self.next_sweep = EPOCH + 5.0
        self.tempers = {f"h{n}": draw.choice([OK, OK, GREY, DOWN, NO, OURS]) for n in range(HOSTS)}
        self.seen = set()
        for at in sorted(draw.uniform(0, 48 * HOUR) for _ in range(JOBS)):
            self.add(EPOCH - 48 * HOUR + at)

    def add(self, at):
        spool, draw = self.house.spool, self.random
        name = spool.add(draw.choice(sorted(self.tempers)), at, recipients=draw.choice([1, 1, 3]))
        entry = spool.jobs[name]
        states = []
        for fresh in entry.states:
            state = fresh
            if draw.random() < 0.6:
                last = draw.uniform(at, EPOCH)
                state = replace(
                    fresh,
                    state="deferred",
                    attempts=draw.randint(1, 9),
                    last=last,
                    retry_at=EPOCH + draw.uniform(-600, 7200),
                    outcome=draw.choice([GREY, LATE]),
                    channel=draw.choice(["", "", "other"]),
                )
            states.append(state)
        held = (Note(HOLD, EPOCH - 9, "root", "look at it"),) if draw.random() < 0.1 else ()
        spool.jobs[name] = replace(entry, states=tuple(states), notes=held)

    def ask(self):
        """Return by name the earliest time that is told (None: at an event), of what waits."""
        house, told = self.house, {}
        names, now = list(house.spool.jobs), house.clock.now
        for at in range(0, len(names), 16):
            datagram = "\n".join(["asked.1 0", *[name.file for name in names[at : at + 16]]])
            self.asker.tick()
            self.asker.answer(datagram.encode(), [house.lane], now, self.next_sweep - now)
            answer = read_answer(self.answers.pop())
            lanes = dict(answer.jobs)
            for name in names[at : at + 16]:
                (lane,) = lanes[name.key]
                if lane.where in BUSY:
                    continue
                entry = house.spool.jobs[name]
                found = {
                    outlook(self.config, entry, state, 7, answer, lane).earliest
                    for _, state in entry.pending
                }
                told[name] = min((when for when in found if when), default=None)
        return told

    def new_flights(self):
        flights = {flight.name for flight in self.house.program.sent.values()}
        new, self.seen = flights - self.seen, flights
        return new

    def go_on(self, now):
        """Let the time be ``now``, as the daemon does: a sweep if it is due, then what may go."""
        self.house.clock.now = now
        if now >= self.next_sweep:
            self.next_sweep = now + 600.0
            self.house.lane.sweep()
        self.house.pump()
        return self.new_flights()

    def land_one(self):
        tag, flight = self.random.choice(sorted(self.house.program.sent.items()))
        self.seen.discard(flight.name)
        self.house.answer(tag, self.tempers[flight.name.host])
        self.house.pump()
        self.new_flights()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_is_what_happens_then(seed, monkeypatch, tmp_path):
    told = Told(seed, monkeypatch, tmp_path)
    told.go_on(EPOCH)
    moments = 0
    for _ in range(STEPS):
        if moments == MOMENTS:
            break
        if told.house.program.sent and told.random.random() < 0.9:
            told.land_one()  # an event: what was told before is told anew
            continue
        said = told.ask()
        now = told.house.clock.now
        times = [when for when in said.values() if when is not None]
        assert not [n for n, when in said.items() if when is not None and when <= now], (
            "a job that nothing keeps was left, with room for it"
        )
        first = min([*times, told.next_sweep])
        if first - EXACT > now:
            assert told.go_on(first - EXACT) == set(), "a job went before its time"
        due = {name for name, when in said.items() if when is not None and when <= first + EXACT}
        gone = told.go_on(first + EXACT)
        assert gone <= due, "a job went that was told to wait"
        assert gone or not due, "no job went though its time had come"
        left = told.ask() if due - gone else {}
        for name in due - gone:
            if name in left:  # what was settled at once is there no more
                assert left[name] is None or left[name] > told.house.clock.now
        moments += bool(gone)
    assert moments > 1, f"seed {seed}: nothing happened"
