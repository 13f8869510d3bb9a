from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from typing import BinaryIO

import pytest

from mta.channel.records import EACH, Dispatch, Done, Opening, Told
from mta.channel.talk import DeliverEnd
from mta.errors import ConfigError, RemoteProtocolError
from mta.machine.run import Ran, Running, start
from mta.machine.serve import Service, Tell, serve
from mta.machine.wire import defect
from mta.types import Outcome, Reply
from tests.channels.driver import ALICE as SOMEONE
from tests.channels.driver import body_file, job, recipients

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Generator[Pair, None, None]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def said(text: str) -> Outcome:
    return Outcome(Reply(250, "2.0.0", text))


def echo(dispatch: Dispatch, body: BinaryIO, tell: Tell) -> Generator[Running, Ran, None]:
    """Tell each recipient what the body says; run it if it begins with "!", fail if with "?"."""
    text = body.read().decode()
    if text.startswith("?"):
        raise ValueError(text)
    if text.startswith("!"):
        deadline = time.monotonic() + 60
        with open("/dev/null", "rb") as empty:
            running = start(["/bin/sh", "-c", text[1:]], empty.fileno(), {}, deadline)
        ran = yield running
        text = ran.output.decode()
    if text.startswith("-"):
        return
    tell(None, said(text), "")


class Talk:
    """deliver's side, all said in advance: what the sockets hold until ``serve`` runs."""

    def __init__(self, pair: Pair, jobs: int = 10) -> None:
        self.ours, self.theirs = pair
        self.end = DeliverEnd("c", "q", "mx.test", (), jobs)
        self.ours.sendall(self.end.opening())
        # deliver would wait for the answer; here nobody else runs, so we say it for him
        self.end.receive(b"hello 1 each %d fd\n" % jobs)

    def send(self, *bodies: str) -> None:
        fds, lines = [], b""
        for body in bodies:
            fds.append(body_file(body.encode()))
            people = recipients(SOMEONE)
            lines += self.end.send_job(job(people), "1ab", len(body), 1.5, people)[1]
        sent = socket.send_fds(self.ours, [lines[:7]], fds)  # a partial send, as it may be
        self.ours.sendall(lines[sent:])
        for fd in fds:
            os.close(fd)

    def heard(self) -> list[object]:
        """Return what the program said after its hello, which must be the one we said for him."""
        data = b""
        while b"\n" not in data or self.end.in_flight:
            piece = self.ours.recv(65536)
            if not piece:
                break
            data += piece
            hello, lf, rest = data.partition(b"\n")
            if lf:
                assert hello.startswith(b"hello 1 each ")
                return self.end.receive(rest) if rest else []
        return []


def serving(talk: Talk, deliver: Callable[..., object] = echo, jobs: int = 10) -> None:
    serve(lambda opening: Service(EACH, jobs, deliver), talk.theirs)


def texts(events: list[object]) -> list[str]:
    return [event.outcome.reply.text for event in events if isinstance(event, Told)]


def test_c1_each_job_gets_the_body_that_came_with_it(pair: Pair) -> None:
    talk = Talk(pair)
    talk.send("one", "two", "three")
    talk.send("four")
    talk.ours.sendall(talk.end.quit())
    serving(talk)
    events = talk.heard()
    assert texts(events) == ["one", "two", "three", "four"]
    assert len([event for event in events if isinstance(event, Done)]) == 4


def test_c1_a_descriptor_that_did_not_come_is_an_error(pair: Pair) -> None:
    talk = Talk(pair)
    talk.send("one")
    people = recipients(SOMEONE)
    talk.ours.sendall(talk.end.send_job(job(people), "1ab", 1, 1.5, people)[1])
    with pytest.raises(RemoteProtocolError, match="no descriptor"):
        serving(talk)


def test_c2_a_job_that_breaks_is_deferred_and_the_next_is_done(pair: Pair) -> None:
    talk = Talk(pair)
    talk.send("? is it", "fine", "-", "fine too")
    talk.ours.sendall(talk.end.quit())
    serving(talk)
    told = [event for event in talk.heard() if isinstance(event, Told)]
    assert [event.outcome.reply.code for event in told] == [451, 250, 451, 250]
    assert told[0].outcome == defect(ValueError("? is it"))
    assert "told no outcome" in told[2].outcome.reply.text


@pytest.mark.parametrize("how", ["quit", "end of file"])
def test_c3_what_is_in_flight_is_finished(pair: Pair, how: str) -> None:
    talk = Talk(pair)
    talk.send("!sleep 0.2; echo slow", "!echo quick")
    if how == "quit":
        talk.ours.sendall(talk.end.quit())
    else:
        talk.ours.shutdown(socket.SHUT_WR)
    serving(talk)
    assert texts(talk.heard()) == ["quick", "slow"]  # both ran at once


def test_c3_sigterm_finishes_what_deliver_has_sent(pair: Pair) -> None:
    talk = Talk(pair)
    talk.send(f"!kill -TERM {os.getpid()}; sleep 0.1; echo first", "second")
    serving(talk)
    assert sorted(texts(talk.heard())) == ["first", "second"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_no_more_children_than_jobs_were_declared(pair: Pair) -> None:
    talk = Talk(pair, jobs=2)
    talk.send("!echo a", "!echo b")
    talk.ours.sendall(talk.end.quit())
    serving(talk, jobs=2)
    assert sorted(texts(talk.heard())) == ["a", "b"]


def test_wrong_options_end_the_program_before_it_says_hello(pair: Pair) -> None:
    talk = Talk(pair)

    def refuse(opening: Opening) -> Service:
        raise ConfigError(f"channel {opening.channel}: no")

    with pytest.raises(ConfigError):
        serve(refuse, talk.theirs)
    talk.theirs.close()
    assert talk.ours.recv(10) == b""


def test_deliver_may_be_gone(pair: Pair) -> None:
    talk = Talk(pair)
    talk.send("one")
    talk.ours.close()
    serving(talk)


def test_bodies_are_not_inherited_by_children(pair: Pair) -> None:
    seen: list[bool] = []

    def look(dispatch: Dispatch, body: BinaryIO, tell: Tell) -> Generator[Running, Ran, None]:
        seen.append(os.get_inheritable(body.fileno()))
        return echo(dispatch, body, tell)

    talk = Talk(pair)
    talk.send("one")
    talk.ours.sendall(talk.end.quit())
    serving(talk, look)
    assert seen == [False]
