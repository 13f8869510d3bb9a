"""A channel program as a child: started when there is work, watched, restarted with back-off.

deliver and the program share one Unix stream socket, which is the program's fd 0
and fd 1; what it writes to fd 2 goes to the log.  A program that dies, babbles
or stays silent past all reason is killed, and its jobs are deferred.

Source   channel(7); unix(7), SCM_RIGHTS; pidfd_open(2).
Units    Monotonic seconds.
State    At most one child.

Invariants, each a test in tests/deliver/test_programs.py
    B1   Whatever the program does, each of its jobs comes back: done, or lost.
    B2   After n ends in a row without a job done it is started 2**(n-1) s later, at most 60.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess

from mta.channel.records import FD, AddressFact, Answer, Avoid, Done, TlsFact, Told
from mta.channel.talk import DeliverEnd
from mta.deliver.options import command
from mta.deliver.outbox import Outbox
from mta.errors import PosthouseError, RemoteProtocolError
from mta.machine import clock
from mta.types import MESSAGE, Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Channel
    from mta.deliver.desk import Flight
    from mta.deliver.lane import Lane
    from mta.machine.log import Log
    from mta.spool.entry import Envelope

__all__ = ["ChannelProgram"]

GREETING = 60.0  # until the program must have answered the hello
SILENCE = 3600.0  # without a word while jobs are in flight: MMDF's sanity limit
IDLE = 60.0  # without a job: it is told to quit
PATIENCE = 30.0  # from quit to SIGKILL
LONGEST_WAIT = 60.0
PIECE = 65536
LINES_A_SECOND = 20  # of stderr that are logged
LINE_OCTETS = 1000
WELL = Reply(250, "2.0.0", "well again")


class ChannelProgram:
    """The program of one lane."""

    def __init__(
        self,
        channel: Channel,
        hostname: str,
        options: tuple[tuple[str, str], ...],
        lane: Lane,
        log: Log,
        *,
        nudge: Callable[[], None],
        connected: Callable[[TlsFact], None] | None = None,
    ) -> None:
        """``nudge`` is called when the lane may have work to go on with.

        ``connected`` is told of each connection that the program tells of.
        """
        self._channel = channel
        self._hostname = hostname
        self._options = options
        self._lane = lane
        self._log = log
        self._nudge = nudge
        self._connected = connected
        self._child: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._end: DeliverEnd | None = None
        self._pidfd = -1
        self._outbox: Outbox | None = None
        self._writing = False
        self._stderr = b""
        self._lines = 0
        self._busy = 0.0  # when it last said something, or was given something
        self._quitting = 0.0
        self._restart_at = 0.0
        self.failures = 0

    @property
    def running(self) -> bool:
        """Whether there is a child."""
        return self._child is not None

    @property
    def restart_at(self) -> float:
        """When it may be started again (monotonic)."""
        return self._restart_at

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""
        return 0 if self._end is None or self._quitting else self._end.free

    def want(self) -> None:
        """Start it if it does not run and its back-off is over."""
        if self._child is None and clock.monotonic() >= self._restart_at:
            self._start()

    def _start(self) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._fail(f"cannot start {self._channel.program}: {error.strerror}")
            return
        try:
            # A group of its own: Ctrl-C at our terminal is for us, and it can be killed whole.
            self._child = subprocess.Popen(
                command(self._channel),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            ours.close()
            self._fail(f"cannot start {self._channel.program}: {error.strerror}")
            return
        finally:
            theirs.close()
        self._be_nice(self._child.pid)
        ours.setblocking(False)
        self._sock, self._outbox = ours, Outbox(ours)
        self._busy, self._quitting = clock.monotonic(), 0.0
        self._log.program_started(self._channel.name, self._child.pid)
        loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self._child.pid)
        assert self._child.stderr is not None
        os.set_blocking(self._child.stderr.fileno(), False)
        loop.add_reader(self._pidfd, self._exited)
        loop.add_reader(self._child.stderr.fileno(), self._read_stderr)
        loop.add_reader(ours.fileno(), self._read)
        channel = self._channel
        most = channel.concurrency + channel.silent
        self._end = DeliverEnd(channel.name, channel.queue, self._hostname, self._options, most)
        self._outbox.add(self._end.opening())
        self.flush()

    def _be_nice(self, pid: int) -> None:
        """Give the program its niceness; what it starts inherits it."""
        if not self._channel.nice:
            return
        try:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, pid, min(19, own + self._channel.nice))
        except OSError as error:
            self._log.warning(f"channel {self._channel.name}: nice: {error.strerror}")

    def avoid(self, what: str, seconds: float, reply: Reply | None) -> None:
        """Tell it for how long an address is left alone; 0.0: it, or a host, is well."""
        if self._end is None or self._outbox is None or self._quitting:
            return
        line = self._end.avoid(Avoid(what, math.ceil(seconds), reply or WELL))
        if line:
            self._outbox.add(line)
            self.flush()

    def refusal(self, envelope: Envelope) -> Outcome | None:
        """Return the failure of a message that needs more than the program knows of."""
        if not (envelope.requiretls or envelope.binary):
            return None
        if self._end is None or self._end.answer is None or self._end.answer.params:
            return None
        what, status = ("REQUIRETLS", "5.7.30") if envelope.requiretls else ("BINARYMIME", "5.6.3")
        return Outcome(Reply(554, status, f"this channel's program knows no {what}"), MESSAGE)

    def send(self, flight: Flight, body: int) -> int:
        """Gather a job for flush(); ``body`` is ours to close.  Returns the job's tag.

        LocalProtocolError if the job cannot be told in the protocol.
        """
        assert self._end is not None and self._end.answer is not None
        assert self._outbox is not None
        entry = flight.claim.entry
        envelope = entry.envelope
        try:
            tag, lines = self._end.send_job(
                entry.job,
                envelope.id,
                envelope.size,
                flight.arrived,
                [recipient for recipient, _ in flight.tried],
                eight_bit=envelope.eight_bit,
                smtputf8=envelope.smtputf8,
                ret=envelope.ret,
                envid=envelope.envid,
                requiretls=envelope.requiretls,
                binary=envelope.binary,
            )
        except PosthouseError:
            os.close(body)
            raise
        self._busy = clock.monotonic()
        if self._end.answer.body == FD:
            self._outbox.add(lines, body)
        else:
            self._outbox.add(lines)
            self._outbox.add_body(body, envelope.size)
        return tag

    def flush(self) -> None:
        """Write what was gathered, as much as the socket takes."""
        if self._writing or self._sock is None or self._outbox is None:
            return
        try:
            if not self._outbox.flush():
                self._writing = True
                asyncio.get_running_loop().add_writer(self._sock.fileno(), self._writable)
        except BrokenPipeError:
            pass  # the end of file that follows says it all
        except OSError as error:
            self._broken(f"cannot write to it: {error}")

    def _writable(self) -> None:
        assert self._sock is not None
        asyncio.get_running_loop().remove_writer(self._sock.fileno())
        self._writing = False
        self.flush()

    def _read(self) -> None:
        """Take what the program says."""
        assert self._sock is not None and self._end is not None
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if not data:
                self._end.eof()
                self._broken("")
                return
            self._busy = clock.monotonic()
            for event in self._end.receive(data):
                if isinstance(event, Told):
                    self._lane.told(
                        event.tag, event.indexes, event.outcome, event.relay, passed=event.passed
                    )
                elif isinstance(event, TlsFact):
                    if self._connected is not None:
                        self._connected(event)
                elif isinstance(event, AddressFact):
                    self._lane.realm.address(event.address, event.reply)
                elif isinstance(event, Answer):
                    if event.addresses:
                        self._lane.realm.brief()
                elif isinstance(event, Done):
                    self.failures = 0
                    self._lane.done(event.tag)
        except RemoteProtocolError as error:
            self._broken(str(error))
        self._nudge()

    def _broken(self, why: str) -> None:
        """End the conversation; with a reason, the program is killed and its jobs are deferred."""
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock.fileno())
        if self._writing:
            loop.remove_writer(self._sock.fileno())
        self._writing = False
        self._sock.close()
        if self._outbox is not None:
            self._outbox.close()
        self._sock, self._end, self._outbox = None, None, None
        if why:
            self._fail(why)
            self.kill()
        self._lane.lost(f"channel program {self._channel.program}: {why or 'it has ended'}")
        self._quitting = self._quitting or clock.monotonic()
        self._nudge()

    def _fail(self, why: str) -> None:
        wait = min(LONGEST_WAIT, 2.0**self.failures)
        self.failures = min(self.failures + 1, 10)
        self._restart_at = clock.monotonic() + wait
        self._log.warning(f"channel {self._channel.name}: {why}; next start in {wait:g} s")

    def _exited(self) -> None:
        """The child has ended: take its last words, then its status."""
        assert self._child is not None and self._child.stderr is not None
        self._read_stderr()
        while self._sock is not None:
            before = self._busy
            self._read()
            if self._sock is not None and self._busy == before:
                self._broken("it has ended, and left its socket to a child of its own")
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        loop.remove_reader(self._child.stderr.fileno())
        os.close(self._pidfd)
        self._child.stderr.close()
        status = self._child.wait()
        self._log.program_ended(self._channel.name, self._child.pid, status)
        self._child = None
        self._nudge()

    def _read_stderr(self) -> None:
        assert self._child is not None and self._child.stderr is not None
        try:
            data = os.read(self._child.stderr.fileno(), PIECE)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._child.stderr.fileno())
        *lines, rest = (self._stderr + data).split(b"\n")
        self._stderr = rest[:LINE_OCTETS]
        for line in [*lines, *([rest] if rest and not data else [])]:
            self._lines += 1
            if self._lines <= LINES_A_SECOND:
                text = Reply.clean(line.decode("utf-8", "replace"), LINE_OCTETS)
                self._log.warning(f"channel {self._channel.name}: {text}")

    def tick(self, mono: float) -> None:
        """Look, about once a second, whether it is overdue or not needed any more."""
        if self._lines > LINES_A_SECOND:
            more = self._lines - LINES_A_SECOND
            self._log.warning(f"channel {self._channel.name}: {more} more lines from its program")
        self._lines = 0
        if self._child is None:
            return
        quiet = mono - self._busy
        if self._quitting:
            if mono - self._quitting > PATIENCE:
                self.kill()
        elif self._end is not None and self._end.answer is None:
            if quiet > GREETING:
                self._broken("it did not greet")
        elif self._end is not None and self._end.in_flight:
            if quiet > SILENCE:
                self._broken(f"it was silent for {SILENCE:g} s with jobs in flight")
        elif quiet > IDLE:
            self.quit()

    def quit(self) -> None:
        """Tell it to end when its jobs are done; no more are sent."""
        if self._end is None or self._outbox is None or self._quitting:
            return
        self._quitting = clock.monotonic()
        if self._end.answer is None:
            self._broken("it had not greeted when it was no longer needed")
            return
        self._outbox.add(self._end.quit())
        self.flush()

    def kill(self) -> None:
        """End it and all its children at once."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
