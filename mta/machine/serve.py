"""Serving deliver from a program whose jobs are generators: local, pipe and list.

A job's code tells outcomes and yields each child process it must wait for;
one loop without threads waits on the socket and on the children of all jobs
in flight.  Whatever goes wrong inside one job defers that job, and the
program goes on.

Source   channel(7).
Units    Deadlines are float seconds of the monotonic clock.
State    The jobs in flight: never more than the program declared.

Invariants, each a property in tests/machine/test_serve.py
    C2   A job whose code raises is told 451 4.3.0 for all its untold recipients
         and done; the next job is done as if nothing had been.
    C3   SIGTERM, quit and end of file end the program with 0 after the jobs in flight.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from typing import BinaryIO

from mta.channel.records import FD, Answer, Avoid, Dispatch, Opening
from mta.channel.talk import Quit
from mta.errors import EX_OK, PosthouseError, exit_code
from mta.machine.process import set_title
from mta.machine.run import Ran, Running
from mta.machine.wire import Event, Wire, defect, open_socket
from mta.types import Outcome, Reply
from mta.values import frozen

__all__ = ["Deliver", "Service", "Tell", "run_program", "serve"]

# recipient's index, or None for all not told; its outcome; the relay that said so, or ""
Tell = Callable[[int | None, Outcome, str], None]
Deliver = Callable[[Dispatch, BinaryIO, Tell], Generator[Running, Ran, None]]


@frozen
class Service:
    """A program ready to serve: whether it settles EACH or ALL, ``jobs`` at once, and its code.

    ``deliver(dispatch, body, tell)`` is a generator: it tells outcomes, and
    yields each Running it must wait for, which gives it the Ran.
    """

    settles: str
    jobs: int
    deliver: Deliver


class _Task:
    """One job in flight: its generator, and the child it waits for."""

    __slots__ = ("body", "dispatch", "steps", "waiting", "watched")

    def __init__(self, dispatch: Dispatch, body: BinaryIO) -> None:
        self.dispatch = dispatch
        self.body = body
        self.steps: Generator[Running, Ran, None] | None = None
        self.waiting: Running | None = None
        self.watched: set[int] = set()


class _Loop:
    """The loop of ``serve``: one socket, and the children of the jobs in flight."""

    def __init__(self, sock: socket.socket, open_program: Callable[[Opening], Service]) -> None:
        self._wire = Wire(sock, buffered=True)
        self._open_program = open_program
        self._service: Service | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._tasks: set[_Task] = set()
        self._out = b""
        self._ending = False
        self._signals = -1
        self.stopped = False  # set by SIGTERM

    def watch(self, fd: int) -> None:
        """Wake up also when ``fd`` reads: the signals' pipe."""
        self._selector.register(fd, selectors.EVENT_READ)
        self._signals = fd

    def run(self) -> None:
        """Serve until deliver or SIGTERM ends it and nothing is in flight."""
        while not self._ending or self._tasks:
            ready = {key.fd for key, _ in self._selector.select(self._patience())}
            now = time.monotonic()
            if not self._ending and self._wire.sock.fileno() in ready:
                self._take(self._wire.receive())
            for task in list(self._tasks):
                running = task.waiting
                if running is not None and (task.watched & ready or now >= running.deadline):
                    self._step(task, running, now)
            if self._signals in ready:
                os.read(self._signals, 4096)
            if self.stopped and not self._ending:
                self._take(self._wire.drain())  # what deliver has sent is in flight
                self._end()

    def _patience(self) -> float | None:
        deadlines = [task.waiting.deadline for task in self._tasks if task.waiting is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            self._selector.unregister(self._wire.sock)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Opening):
                service = self._open_program(event)
                offered = int(event.option("jobs", "1"))
                jobs = max(1, min(service.jobs, offered))
                self._service = service
                self._wire.send(
                    self._wire.end.answer(Answer(service.settles, jobs, FD, params=True))
                )
            elif isinstance(event, Avoid):
                continue  # we did not ask for it, and connect to nobody
            elif isinstance(event, Quit):
                self._end()
            else:
                self._start(*event)

    def _start(self, dispatch: Dispatch, body: BinaryIO) -> None:
        assert self._service is not None  # ProgramEnd lets no job come before the answer
        task = _Task(dispatch, body)
        tag = dispatch.tag

        def tell(index: int | None, outcome: Outcome, relay: str = "") -> None:
            self._out += self._wire.end.outcome(tag, index, outcome, relay)
            if self._wire.end.untold(tag):  # else ``done`` follows at once
                self._flush()

        task.steps = self._service.deliver(dispatch, body, tell)
        self._tasks.add(task)
        self._advance(task, None)

    def _advance(self, task: _Task, ran: Ran | None) -> None:
        """Run the job's code until it waits for its next child or ends."""
        assert task.steps is not None
        try:
            running = task.steps.send(ran)  # type: ignore[arg-type]
        except StopIteration:
            self._finish(task, PosthouseError("the channel program told no outcome"))
        except Exception as error:
            self._finish(task, error)
        else:
            task.waiting = running
            self._watch(task)

    def _watch(self, task: _Task) -> None:
        wanted = set(task.waiting.descriptors) if task.waiting is not None else set()
        for fd in task.watched - wanted:
            self._selector.unregister(fd)
        for fd in wanted - task.watched:
            self._selector.register(fd, selectors.EVENT_READ)
        task.watched = wanted

    def _step(self, task: _Task, running: Running, now: float) -> None:
        # A descriptor must leave the selector before it is closed, and its
        # number may be given to another child at once.
        watched, task.waiting = task.watched, None
        self._watch(task)
        ran = running.step(now)
        if ran is not None:
            self._advance(task, ran)
            return
        task.waiting = running
        assert watched
        self._watch(task)

    def _finish(self, task: _Task, error: Exception) -> None:
        end, tag = self._wire.end, task.dispatch.tag
        self._tasks.discard(task)
        task.body.close()
        if end.untold(tag):
            self._out += end.outcome(tag, None, defect(error))
        self._out += end.done(tag)
        self._flush()

    def _flush(self) -> None:
        octets, self._out = self._out, b""
        self._wire.send(octets)


def serve(open_program: Callable[[Opening], Service], sock: socket.socket | None = None) -> None:
    """Serve deliver on fd 0 until it ends the conversation or SIGTERM comes.

    ``open_program`` reads the options; a PosthouseError from it ends the
    program before it says hello, so that deliver sees why on its stderr.
    """
    loop = _Loop(open_socket() if sock is None else sock, open_program)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    loop.watch(reading)

    def stop(number: int, frame: object) -> None:
        loop.stopped = True

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handled = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        loop.run()
    finally:
        for number, was in handled.items():
            signal.signal(number, was)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def run_program(name: str, open_program: Callable[[Opening], Service]) -> int:
    """Serve as the channel program ``name`` and return its exit status: its last line."""

    def titled(opening: Opening) -> Service:
        set_title(f"{name}[{opening.channel}]")
        return open_program(opening)

    try:
        serve(titled)
    except PosthouseError as error:
        print(f"{name}: {Reply.clean(str(error))}", file=sys.stderr)
        return exit_code(error)
    return EX_OK
