"""The conversation of a channel program that uses asyncio, such as smtp.

Programs whose jobs are generators use mta.machine.serve instead.

Source   channel(7).
State    The jobs that came and were not yet taken: never more than the program
         declared; what is still to be said to deliver.

Invariants, each a property in tests/machine/test_conversation.py
    C4   What is told and done arrives in that order, whatever the socket takes at once.
    C5   The iteration ends after SIGTERM, quit and end of file, and not before the
         last job that had come by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import BinaryIO

from mta.channel.records import (
    ALL,
    EACH,
    FD,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Opening,
    TlsFact,
)
from mta.channel.talk import Quit
from mta.errors import RemoteProtocolError
from mta.machine.wire import Event, Wire, defect, open_socket
from mta.types import Outcome

__all__ = ["ALL", "EACH", "AsyncConversation"]


class AsyncConversation:
    """The conversation of an asyncio program.

    Make one by ``open``, look at its ``opening``, ``answer`` once, then
    iterate: it gives each job with its body, and ends after quit, end of file
    or SIGTERM.  Then finish what is in flight and ``close``.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Read from ``sock`` in the running loop; use ``open``, which awaits the options."""
        sock.setblocking(False)
        self._wire = Wire(sock, buffered=False)
        self._loop = asyncio.get_running_loop()
        self._jobs: asyncio.Queue[tuple[Dispatch, BinaryIO] | None] = asyncio.Queue()
        self._opened: asyncio.Future[Opening] = self._loop.create_future()
        self._drained: asyncio.Future[None] | None = None
        self._out = b""
        self._flushing = False
        self._reading = True
        self._error: Exception | None = None
        self._avoid: Callable[[Avoid], None] | None = None
        self.opening = Opening("", "", "")
        self._loop.add_reader(sock.fileno(), self._read, self._wire.receive)

    @classmethod
    async def open(cls, sock: socket.socket | None = None) -> AsyncConversation:
        """Return the conversation on fd 0 (or ``sock``) when deliver has told its options.

        Raises RemoteProtocolError if deliver ends it before.
        """
        conversation = cls(open_socket() if sock is None else sock)
        conversation.opening = await conversation._opened
        with contextlib.suppress(ValueError, RuntimeError):  # only a main thread has signals
            conversation._loop.add_signal_handler(signal.SIGTERM, conversation._stop)
        return conversation

    def answer(self, settles: str, jobs: int, avoid: Callable[[Avoid], None] | None = None) -> None:
        """Say hello: ``settles`` EACH or ALL, ``jobs`` at once or as many as were offered.

        ``avoid`` hears what others found out about addresses, where deliver tells it.
        """
        offered = int(self.opening.option("jobs", "1"))
        taken = max(1, min(jobs, offered))
        told = avoid is not None and self.opening.option("addresses") == "yes"
        self._avoid = avoid
        self._say(self._wire.end.answer(Answer(settles, taken, FD, True, told)))

    def __aiter__(self) -> AsyncConversation:
        return self

    async def __anext__(self) -> tuple[Dispatch, BinaryIO]:
        """Return the next job and its body, which the program closes.

        Raises RemoteProtocolError if deliver broke the protocol.
        """
        job = await self._jobs.get()
        if job is not None:
            return job
        self._jobs.put_nowait(None)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def untold(self, tag: int) -> tuple[int, ...]:
        """Return the recipients of job ``tag`` that were not told yet."""
        return self._wire.end.untold(tag)

    def tell(
        self,
        tag: int,
        index: int | None,
        outcome: Outcome,
        relay: str = "",
        *,
        dsn_passed: bool = False,
    ) -> None:
        """Tell what became of recipient ``index`` of job ``tag``, or of all not told if None.

        ``dsn_passed``: the server at ``relay`` offers DSN and was told what they
        want (RFC 3461), so that a success is its to report; without it deliver
        reports one that was asked for as "relayed".
        """
        end = self._wire.end
        self._say(end.outcome(tag, index, outcome, relay, dsn_passed=dsn_passed))

    def tls(self, fact: TlsFact) -> None:
        """Tell of one connection that was made, or failed, for the log and RFC 8460's counters."""
        self._say(self._wire.end.tls(fact))

    def address(self, fact: AddressFact) -> None:
        """Tell whether anybody answered at an address."""
        self._say(self._wire.end.address(fact))

    def done(self, tag: int) -> None:
        """End job ``tag``, of which every recipient was told."""
        self._say(self._wire.end.done(tag))

    def fail(self, tag: int, error: BaseException) -> None:
        """End job ``tag`` whose code raised ``error``: whoever was not told is deferred."""
        if self._wire.end.untold(tag):
            self.tell(tag, None, defect(error))
        self.done(tag)

    async def close(self) -> None:
        """Send what is still to be said, then close the socket."""
        self._stop()
        self._flush()
        if self._out:
            self._drained = self._loop.create_future()
            await self._drained
        self._loop.remove_writer(self._wire.sock.fileno())
        self._wire.sock.close()

    def _read(self, receive: Callable[[], list[Event]]) -> None:
        try:
            events = receive()
        except (RemoteProtocolError, OSError) as error:
            self._error = error
            self._hang_up()
            return
        for event in events:
            if isinstance(event, Opening):
                self._opened.set_result(event)
            elif isinstance(event, Quit):
                self._hang_up()
            elif isinstance(event, Avoid):
                if self._avoid is not None:
                    self._avoid(event)
            else:
                self._jobs.put_nowait(event)

    def _stop(self) -> None:
        """Take what deliver has sent already, then no more."""
        if self._reading:
            self._read(self._wire.drain)
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._reading:
            return
        self._reading = False
        self._loop.remove_reader(self._wire.sock.fileno())
        self._jobs.put_nowait(None)
        if not self._opened.done():
            ended = self._error or RemoteProtocolError("deliver ended before it told its options")
            self._opened.set_exception(ended)

    def _say(self, octets: bytes) -> None:
        self._out += octets
        if not self._flushing:  # an outcome and its ``done`` go out together
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        fd = self._wire.sock.fileno()
        self._flushing = False
        if fd < 0 or not self._out:
            return
        try:
            sent = self._wire.sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:  # deliver is gone: nobody wants to know
            sent = len(self._out)
        self._out = self._out[sent:]
        if self._out:
            self._flushing = True
            self._loop.add_writer(fd, self._flush)
            return
        self._loop.remove_writer(fd)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
