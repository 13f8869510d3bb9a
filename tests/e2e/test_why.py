"""mta why is right: 200 jobs in random states, real delivers; what it says is what happens then.

Three delivers, as MMDF has them: one that takes all of its queue, one with -t and one with
-o that share another.  Some jobs are fresh, some were deferred, by these channels or by
another one of their queue, some are held, some hosts were buried by hand for some seconds.
All are asked about one by one before most of it happens: where that takes long, all times
are longer.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from mta import explain
from mta.config.load import load_config
from mta.config.model import Config
from mta.hoststat import bury
from mta.spool.entry import HOLD, Note, Settlement
from mta.spool.intake import take_in
from mta.spool.spool import Spool
from mta.types import DEFERRED, Job, Mailbox, Outcome, Recipient, Reply
from tests.e2e.house import House, Sink, slowness, wait
from tests.queued import ALICE

JOBS = 200
# Seconds where the machine is quick.
YOUNG, OLD = 12.0, 15.0  # what -t and -o are given
DUE = 25.0
SWEEP = 2.0
EARLY, LATE = 0.2, 8.0  # a busy machine is late, but nothing may be early
BURIED = {"buried1.example": 9.0, "buried2.example": 14.0}

GREY = Outcome(Reply(451, "4.7.1", "come back later"))  # not about the host: its answer is no event
ROW = (
    "{{name: {name}, program: smtp, queue: {name}, domains: [{domain}], concurrency: 300,"
    " per_host: 300, relay: ['127.0.0.1:{port}'], retry: {{first: 1h}}}}"
)
CHANNELS = {"plain": ".example", "aged": ".aged"}


def daemons(pace: float) -> tuple[str, ...]:
    return (
        "deliver -b -cplain -T600",
        f"deliver -b -caged -t{pace * YOUNG / 3600:.6f} -T600",
        f"deliver -b -caged -o{pace * OLD / 3600:.6f} -T{SWEEP:g}",
    )


class Jobs:
    """200 jobs in random states, made before any deliver runs."""

    def __init__(self, spool: Spool, random: Random, pace: float) -> None:
        self.spool, self.random, self.pace = spool, random, pace
        self.held: list[str] = []
        writer, self.idents = spool.writer(), []
        for number in range(JOBS):
            host = random.choice([f"h{number}.example", f"h{number}.aged", *BURIED])
            queue = "aged" if host.endswith(".aged") else "plain"
            people = (Recipient(0, Mailbox("bob", host)),)
            draft = writer.begin()
            draft.write(b"Subject: x\r\n\r\nhello\r\n")
            job = Job(0, queue, queue, host, "", ALICE, people)
            self.idents.append(writer.commit(draft, [job], ALICE))
        writer.close()
        assert take_in(spool)
        for ident in self.idents:
            self.age(ident)
        spool.close()

    def age(self, ident: str) -> None:
        """Give a job a past."""
        (name,) = self.spool.find(ident)
        claim, now, fate = self.spool.claim(name), time.time(), self.random.random()
        assert claim is not None
        if fate < 0.5:
            due = now + self.random.uniform(-2.0, self.pace * DUE)
            by = self.random.choice(["", "", "dial"])
            claim.settle([Settlement(0, DEFERRED, now - 1.0, due, GREY)], "", by)
        elif fate < 0.65:
            claim.note(Note(HOLD, now, "root", "look at it"))
            self.held.append(ident)
        claim.release()


def ask(config: Config, ident: str) -> dict[str, Any]:
    """Return what mta why --json says of the one recipient of a message; {} if it is gone."""

    def lines() -> list[str]:
        return list(explain.why(config, explain.find(config, ident), time.time(), as_json=True))

    return heard(lines)


def heard(lines: Callable[[], list[str]]) -> dict[str, Any]:
    """Return the answer that ``lines`` gives once no deliver was too busy to be asked."""
    for _ in range(20):
        said = lines()
        assert len(said) <= 1
        answer = json.loads(said[0]) if said else {}
        if not answer or not answer["silent"]:
            break
        time.sleep(0.5)  # delivers answer so many questions at a time
    return answer


def attempts(house: House) -> dict[str, float]:
    """Return when the first attempt at each message began."""
    first: dict[str, float] = {}
    for event in house.events("attempt"):
        first.setdefault(event["id"], event["delays"][1])
    return first


@pytest.mark.timeout(400)
def test_what_mta_why_says_is_what_happens_then(
    new_house: Callable[..., House], new_sink: Callable[..., Sink]
) -> None:
    seed = int(os.environ.get("WHY_SEED", "0")) or int(time.time())
    pace = slowness()
    print(f"WHY_SEED={seed}, times are {pace:.1f} times as long")
    sink = new_sink()
    rows = [ROW.format(name=n, domain=d, port=sink.port) for n, d in CHANNELS.items()]
    lines = daemons(pace)
    house = new_house(rows, lines)
    config = load_config(str(house.config))
    jobs = Jobs(Spool.open(config.spool), Random(seed), pace)
    for host, seconds in BURIED.items():
        bury(config, [host], pace * seconds, time.time())
    before = ask(config, jobs.held[0])
    assert before["by"] == 0 and before["gates"][0]["gate"] == "hold"
    known = {daemon.line for daemon in config.daemons}
    assert {each["line"] for each in before["daemons"]} <= known

    for line in lines:
        house.start(*line.split())
    wait(lambda: attempts(house), 60)
    house.await_sweeps("plain", "aged", "aged")
    said = {ident: answer for ident in jobs.idents if (answer := ask(config, ident))}
    begun = attempts(house)
    said = {ident: answer for ident, answer in said.items() if ident not in begun}
    assert len(said) > 60, "too few are left to speak of"
    check_command(house, said)
    end = max([answer["earliest"] for answer in said.values()]) + pace * LATE
    due = {i for i, answer in said.items() if answer["earliest"] and not answer["in_flight"]}
    wait(lambda: due <= set(attempts(house)) or time.time() > end, 300)

    begun = attempts(house)
    wrong = []
    for ident, answer in said.items():
        at = answer["arrived"] + begun[ident] if ident in begun else None
        told = answer["earliest"] if ident in due else None
        if answer["in_flight"]:
            continue
        if told is None:
            wrong += [(answer, at)] if at is not None else []
        elif at is None or not told - EARLY <= at <= told + pace * LATE:
            wrong.append((answer, at))
    told_of = [
        (a["queue"], a["host"], a["gates"], a["daemons"], a["now"], a["earliest"], at)
        for a, at in wrong
    ]
    assert not wrong, f"seed {seed}: {len(wrong)} of {len(said)}: {told_of[:3]}"
    assert {gate["gate"] for a in said.values() for gate in a["gates"]} >= {"hold", "due", "age"}

    waiting = [ident for ident in jobs.held if ident in said]
    assert waiting and not set(waiting) & set(begun)
    check_release(house, config, waiting)


def check_command(house: House, said: dict[str, dict[str, Any]]) -> None:
    """The command says the same."""
    for ident in sorted(said, key=lambda i: said[i]["earliest"])[-2:]:  # what waits for longest
        answer = heard(lambda i=ident: house.run("mta", "why", "--json", i).stdout.splitlines())
        if answer:  # else it has gone meanwhile
            assert answer["by"] == said[ident]["by"]
            assert abs(answer["earliest"] - said[ident]["earliest"]) < SWEEP + 0.5
        text = house.run("mta", "why", ident).stdout
        assert text.startswith(f"{ident}: bob@") or not text


def check_release(house: House, config: Config, held: list[str]) -> None:
    """Those that wait for a word go at that word, if nothing else keeps them."""
    answer = ask(config, held[0])
    assert answer["events"][0] == "hold"
    assert house.run("mta", "release", *held).returncode == 0
    mine = [i for i in held if [g["gate"] for g in ask(config, i).get("gates", [])] == []]
    wait(lambda: set(mine) <= set(attempts(house)), 60)
