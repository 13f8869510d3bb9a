"""Holds, releases and requeues as a lane lives them: noted on the job, then told."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.deliver.orders import recall
from mta.spool.entry import DUE, HOLD, RELEASE, Note
from mta.types import Outcome, Reply
from mta.values import replace
from tests.deliver.test_lane import GREY, OK, House

DAY = 86400.0


class Held(RuleBasedStateMachine):
    """A lane beside a dict of who is held; the clock goes on, wake-ups may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House(concurrency=4, per_host=4)
        self.held: set[object] = set()
        self.tried: dict[object, int] = {}

    def names(self) -> list:
        return sorted(self.house.spool.jobs, key=lambda name: name.id)

    def note(self, name, word: str) -> bool:
        """Note as a command does: only what is in nobody's hands."""
        spool = self.house.spool
        if name in spool.claimed:
            return False
        entry = spool.jobs[name]
        slot = HOLD if word == RELEASE else word
        kept = [n for n in entry.notes if (HOLD if n.word == RELEASE else n.word) != slot]
        note = Note(word, self.house.clock.now, "root")
        spool.jobs[name] = replace(entry, notes=(*kept, note))
        return True

    @rule(host=st.sampled_from(["a", "b"]))
    def arrive(self, host: str) -> None:
        self.house.clock.now += 0.001
        self.house.lane.offer(self.house.queue(host))

    @precondition(lambda self: self.house.spool.jobs)
    @rule(data=st.data())
    def hold(self, data) -> None:
        name = data.draw(st.sampled_from(self.names()))
        if self.note(name, HOLD):
            self.held.add(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), every=st.booleans())
    def release(self, data, every: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.held, key=lambda name: name.id)))
        assert self.note(name, RELEASE)
        self.held.discard(name)
        recall(self.house.lane, [] if every else [name])
        self.goes(name)

    @precondition(lambda self: self.house.spool.jobs)
    @rule(data=st.data())
    def requeue(self, data) -> None:
        name = data.draw(st.sampled_from(self.names()))
        self.house.clock.now += 1.0
        if self.note(name, DUE):
            recall(self.house.lane, [name])
            if name not in self.held:
                self.goes(name)

    def goes(self, name) -> None:
        """Pump and answer until ``name`` has been tried."""
        entry = self.house.spool.jobs[name]
        due = any(n.word == DUE and n.at > entry.states[0].last for n in entry.notes)
        if entry.states[0].attempts and not due and entry.states[0].retry_at > self.house.clock.now:
            return
        for _ in range(200):
            self.house.pump()
            if any(f.name == name for f in self.house.program.sent.values()):
                return
            assert self.house.program.sent, "it was not tried, and nothing is in flight"
            self.answer(GREY)

    def answer(self, outcome: Outcome) -> None:
        tag, flight = next(iter(self.house.program.sent.items()))
        self.tried[flight.name] = self.tried.get(flight.name, 0) + 1
        self.house.answer(tag, outcome)

    @precondition(lambda self: self.house.program.sent)
    @rule(outcome=st.sampled_from([OK, GREY]))
    def land(self, outcome: Outcome) -> None:
        self.answer(outcome)

    @rule(seconds=st.sampled_from([1.0, 400.0, 5000.0, DAY]))
    def wait(self, seconds: float) -> None:
        self.house.clock.now += seconds
        self.house.lane.sweep()

    @invariant()
    def held_jobs_stay(self) -> None:
        before = set(self.house.program.history)
        self.house.pump()
        for flight in self.house.program.sent.values():
            assert flight.name not in self.held, "a held job was handed over"
        assert self.held <= set(self.house.spool.jobs)
        assert before <= set(self.house.program.history)


Held.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
TestHeld = Held.TestCase


def test_what_waits_for_a_time_goes_when_it_is_recalled() -> None:
    house = House()
    (name,) = house.queue("a")
    house.run(lambda host: GREY)
    recall(house.lane, [name])
    house.pump()
    assert not house.program.sent, "it is not due: nobody noted that"
    entry = house.spool.jobs[name]
    house.clock.now += 1
    house.spool.jobs[name] = replace(entry, notes=(Note(DUE, house.clock.now, "root"),))
    recall(house.lane, [])
    house.pump()
    assert len(house.program.sent) == 1
    house.answer(next(iter(house.program.sent)), Outcome(Reply(451, "4.0.0", "again")))
    recall(house.lane, [name])
    house.pump()
    assert not house.program.sent, "once is once"
