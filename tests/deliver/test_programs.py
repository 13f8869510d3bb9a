"""The supervision of a channel program, with real ones of a few lines."""

import asyncio
import os
import stat
import sys

import pytest

from mta.channel.records import TlsFact
from mta.deliver import programs
from mta.deliver.desk import Flight
from mta.deliver.programs import ChannelProgram
from mta.spool.entry import Envelope
from mta.types import NULL_PATH, Outcome
from mta.values import replace
from tests.deliver.fakes import BODY, EPOCH, Log, Spool, channel

HEAD = f"""#!{sys.executable} -S
import os, sys, time
def say(text): os.write(1, text.encode())
lines = iter(sys.stdin.readline, "")
for line in lines:
    if line == "go\\n": break
"""
GOOD = """
say("hello 1 each 5 inline\\n")
for line in lines:
    words = line.split()
    if words[0] == "body":
        body = sys.stdin.read(int(words[2]))
        say(f"outcome {words[1]} * 250 2.0.0 recipient mx {len(body)} octets\\ndone {words[1]}\\n")
    if words[0] == "quit": sys.exit(0)
"""
PROGRAMS = {
    "good": GOOD,
    "dies": "say('hello 1 each 5 inline\\n')\nsys.stderr.write('out of luck\\n')\nsys.exit(3)\n",
    "babbles": "say('hello 1 each 5 inline\\nwhat?\\n')\ntime.sleep(60)\n",
    "leaves": "say('hello 1 each 5 inline\\n')\nos.close(0); os.close(1)\ntime.sleep(60)\n",
    "dies in a job": "say('hello 1 each 5 inline\\n')\nnext(lines)\nos.kill(os.getpid(), 9)\n",
}


class Lane:
    def __init__(self):
        self.told_, self.done_, self.lost_, self.passed_ = [], [], [], []

    def told(self, tag, indexes, outcome, relay, *, passed=False):
        self.told_.append((tag, indexes, outcome, relay))
        self.passed_ += indexes if passed else ()

    def done(self, tag):
        self.done_.append(tag)

    def lost(self, why):
        self.lost_.append(why)


class House:
    def __init__(self, tmp_path, text, **changes):
        path = tmp_path / "program"
        path.write_text(HEAD + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.lane, self.log, self.spool = Lane(), Log(), Spool()
        self.changed = asyncio.Event()
        self.program = ChannelProgram(
            channel(program=str(path), **changes), "mx.example.test", (), self.lane, self.log,
            nudge=self.changed.set,
        )  # fmt: skip

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def send(self, notify="", **env):
        name = self.spool.add("a", EPOCH)
        claim = self.spool.claim(name)
        entry = claim.entry
        envelope = Envelope(name.id, entry.envelope.reverse_path, len(BODY), **env)
        people = tuple([replace(r, notify=notify) for r in entry.job.recipients])
        job = replace(entry.job, recipients=people)
        claim.spool.jobs[name] = replace(entry, envelope=envelope, job=job)
        body = claim.open_body()
        os.lseek(body, 0, os.SEEK_SET)
        tag = self.program.send(Flight(claim, claim.entry.pending, EPOCH, 0.0), body)
        self.program.flush()
        return tag


def run(tmp_path, name, scenario):
    async def body():
        house = House(tmp_path, PROGRAMS.get(name, name))
        try:
            await scenario(house)
        finally:
            house.program.kill()
            if house.program.running:
                await house.until(lambda: not house.program.running)

    asyncio.run(body())


def test_jobs_go_and_their_outcomes_come_and_quit_ends_it(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        assert house.program.free == 5
        tags = [house.send(), house.send()]
        await house.until(lambda: len(house.lane.done_) == 2)
        assert house.lane.done_ == tags
        assert house.lane.told_[0][2].reply.text == f"{len(BODY)} octets"
        assert isinstance(house.lane.told_[0][2], Outcome)
        house.program.quit()
        assert house.program.free == 0
        await house.until(lambda: not house.program.running)
        assert house.log.of("program_ended")[0][2] == 0
        assert not house.log.of("warning")

    run(tmp_path, "good", scenario)


@pytest.mark.parametrize("name", ["dies", "babbles", "leaves", "dies in a job"])
def test_b1_whatever_it_does_its_jobs_come_back(tmp_path, name):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free or house.lane.lost_)
        if house.program.free:
            house.send()
        await house.until(lambda: house.lane.lost_)
        await house.until(lambda: not house.program.running)
        assert len(house.lane.lost_) == 1
        assert house.program.failures == 1 and house.program.free == 0
        house.program.want()
        assert not house.program.running  # not before its time

    run(tmp_path, name, scenario)


def test_what_it_says_on_stderr_is_logged(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.lane.lost_ and not house.program.running)
        assert ("channel smtp: out of luck",) in house.log.of("warning")
        assert house.log.of("program_ended")[0][2] == 3

    run(tmp_path, "dies", scenario)


def test_b2_the_wait_doubles_up_to_a_minute(tmp_path, monkeypatch):
    async def scenario(house):
        now = [1000.0]
        monkeypatch.setattr(programs.clock, "monotonic", lambda: now[0])
        waits = []
        for _ in range(8):
            house.program.want()
            assert not house.program.running
            waits.append(house.program.restart_at - now[0])
            now[0] = house.program.restart_at
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    async def body():
        house = House(tmp_path, "")
        (tmp_path / "program").unlink()
        await scenario(house)

    asyncio.run(body())


def test_silence_and_idleness_end_it(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        mono = programs.clock.monotonic()
        house.program.tick(mono + programs.IDLE - 1)
        assert house.program.free
        house.program.tick(mono + programs.IDLE + 1)
        await house.until(lambda: not house.program.running)
        assert house.log.of("program_ended")[0][2] == 0

    run(tmp_path, "good", scenario)


def test_one_that_holds_a_job_in_silence_is_killed(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        house.send()
        house.program.tick(programs.clock.monotonic() + programs.SILENCE + 1)
        assert "silent" in house.lane.lost_[0]
        await house.until(lambda: not house.program.running)
        assert house.log.of("program_ended")[0][2] == -9

    run(tmp_path, "say('hello 1 each 5 inline\\n')\ntime.sleep(60)\n", scenario)


PASSING = """
say("hello 1 each 5 inline params\\n")
asked = ""
for line in lines:
    words = line.split()
    if words[0] in ("job", "param"): asked += " ".join(words[3:]).replace("%", "-") + "; "
    if words[0] == "body":
        sys.stdin.read(int(words[2]))
        say(f"passed {words[1]} *\\noutcome {words[1]} * 250 2.0.0 recipient mx {asked}\\n")
        say(f"done {words[1]}\\n")
    if words[0] == "quit": sys.exit(0)
"""


def test_what_was_asked_goes_and_who_was_passed_on_comes(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        house.send("SUCCESS", ret="FULL", envid="E1", requiretls=True, binary=True)
        await house.until(lambda: house.lane.done_)
        said = house.lane.told_[0][2].reply.text
        assert "requiretls,binarymime; ret FULL; envid E1; notify SUCCESS;" in said
        assert house.lane.passed_ == [0]

    run(tmp_path, PASSING, scenario)


def test_what_it_tells_of_connections_is_handed_on(tmp_path):
    async def scenario(house):
        told = []
        house.program._connected = told.append
        house.program.want()
        await house.until(lambda: house.program.free and told)
        assert told == [TlsFact("x.test", "mx[192.0.2.1]:25", "may", "", "TLSv1.3", "AES")]

    text = GOOD.replace("params", "").replace(
        "inline\\n", "inline\\ntls x.test mx[192.0.2.1]:25 may % TLSv1.3 AES\\n"
    )
    run(tmp_path, text, scenario)


def test_a_program_of_old_is_given_nothing_that_it_would_break(tmp_path):
    async def scenario(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        plain = Envelope("x", NULL_PATH, 1)
        assert house.program.refusal(plain) is None
        for change, status in (({"requiretls": True}, "5.7.30"), ({"binary": True}, "5.6.3")):
            outcome = house.program.refusal(replace(plain, **change))
            assert (outcome.reply.permanent, outcome.reply.status) == (True, status)

    run(tmp_path, "good", scenario)

    async def knowing(house):
        house.program.want()
        await house.until(lambda: house.program.free)
        assert house.program.refusal(Envelope("x", NULL_PATH, 1, binary=True)) is None

    run(tmp_path, GOOD.replace("inline", "inline params"), knowing)


def test_a_program_is_as_nice_as_its_channel_says(tmp_path):
    text = "time.sleep(0.3)\nsys.stderr.write(f'nice {os.nice(0)}\\n')\nsys.exit(0)\n"

    async def run():
        house = House(tmp_path, text, nice=7)
        house.program.want()
        await house.until(lambda: not house.program.running)
        return house.log.of("warning")

    warnings = asyncio.run(run())
    assert any(f"nice {min(19, os.nice(0) + 7)}" in str(line) for line in warnings)


def test_b2_without_descriptors_it_is_started_later(tmp_path, monkeypatch):
    async def scenario(house):
        def fail(*arguments):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(programs.socket, "socketpair", fail)
        house.program.want()
        assert not house.program.running and house.program.failures == 1
        monkeypatch.undo()
        house.program.want()
        assert not house.program.running

    async def body():
        await scenario(House(tmp_path, PROGRAMS["good"]))

    asyncio.run(body())
