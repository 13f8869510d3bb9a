"""A channel program's end of its conversation with deliver, without its socket.

The counterpart of ``talk.DeliverEnd``; what is promised of both stands there.

Source   man/channel.7; the words are of mta.channel.records.
State    The tables of mta.channel.states.  Held: one unfinished line, and the
         recipients not yet told of the jobs in flight.
"""

from __future__ import annotations

from re import Match

from mta.channel.records import (
    ALL,
    EACH,
    FD,
    LINE_LIMIT,
    RECIPIENT_LIMIT,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Opening,
    Part,
    Quit,
    TlsFact,
    decode_words,
    encode_address,
    encode_answer,
    encode_done,
    encode_outcome,
    encode_passed,
    encode_tls,
    parse,
    read_avoid,
    read_job,
    read_recipient,
    with_param,
)
from mta.channel.states import FROM_DELIVER, JOB, SESSION, walk
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import Outcome, Recipient
from mta.values import replace

__all__ = ["ProgramEnd"]


class ProgramEnd:
    """A channel program's end of its conversation with deliver.

    Feed what arrives to ``receive``; when it returns the Opening, send
    ``answer(...)``; then each Dispatch is a job to do, to be told by
    ``outcome`` and ended by ``done``.
    """

    def __init__(self) -> None:
        self._state = "silent"
        self._buffer = b""
        self._names: list[str] = []
        self._options: list[tuple[str, str]] = []
        self._body = FD
        self._jobs: dict[int, str] = {}
        self._gathering: dict[int, tuple[Dispatch, dict[int, Recipient]]] = {}
        self._untold: dict[int, set[int]] = {}
        self._asking: set[int] = set()  # jobs with a recipient whose success is to be reported
        self._inline: tuple[int, int] | None = None  # tag and octets of body still to come
        self._limit = 0
        self._addresses = False

    @property
    def in_flight(self) -> int:
        """How many jobs were given and are not done."""
        return len(self._jobs)

    def untold(self, tag: int) -> tuple[int, ...]:
        """Return the recipients of job ``tag`` not told yet, in order of index."""
        return tuple(sorted(self._untold.get(tag, ())))

    def answer(self, answer: Answer) -> bytes:
        """Return the program's hello; LocalProtocolError if none is due or it asks too much."""
        offered = int(dict(self._options).get("jobs", "1"))
        if self._limit or (self._state, "answer") not in SESSION:
            raise LocalProtocolError(f"no hello is due when {self._state}")
        if answer.settles not in (EACH, ALL) or not 0 < answer.jobs <= offered:
            raise LocalProtocolError(f"{answer} is no answer to an offer of {offered} jobs")
        self._state = SESSION[self._state, "answer"]
        self._body = answer.body
        self._limit = answer.jobs
        self._addresses = answer.addresses
        return encode_answer(answer)

    def outcome(
        self,
        tag: int,
        index: int | None,
        outcome: Outcome,
        relay: str = "",
        *,
        dsn_passed: bool = False,
    ) -> bytes:
        """Return the line that tells recipient ``index`` of job ``tag``, or all untold if None.

        ``dsn_passed``: ``relay`` was told what DSNs they want, and reports their
        success itself; said where somebody asked for that.
        LocalProtocolError if the job is not in flight or the recipient was told.
        """
        self._say("outcome", tag)
        untold = self._untold[tag]
        before = b""
        if dsn_passed and tag in self._asking and (index is None or index in untold):
            before = encode_passed(tag, index)
        if index is None:
            untold.clear()
        elif index in untold:
            untold.discard(index)
        else:
            raise LocalProtocolError(f"recipient {index} of job {tag} is not to be told")
        return before + encode_outcome(tag, index, outcome, relay)

    def done(self, tag: int) -> bytes:
        """Return the line that ends job ``tag``; LocalProtocolError unless all were told."""
        if self._untold.get(tag):
            raise LocalProtocolError(f"job {tag} has recipients that were not told")
        self._say("done", tag)
        del self._jobs[tag], self._untold[tag]
        self._asking.discard(tag)
        return encode_done(tag)

    def tls(self, fact: TlsFact) -> bytes:
        """Return the line that tells of one connection; b"" before the program said hello."""
        return encode_tls(fact) if (self._state, "tls") in SESSION else b""

    def address(self, fact: AddressFact) -> bytes:
        """Return the line that tells of an address; b"" if the hello did not say so."""
        return encode_address(fact) if self._addresses else b""

    def _say(self, word: str, tag: int) -> None:
        state = self._jobs.get(tag, "absent")
        if (self._state, word) not in SESSION or (state, word) not in JOB[self._body]:
            raise LocalProtocolError(f"no {word!r} is due for job {tag}")
        self._jobs[tag] = JOB[self._body][state, word]

    def receive(self, data: bytes) -> list[Opening | Dispatch | Part | Avoid | Quit]:
        """Return what deliver said in ``data`` and before; RemoteProtocolError as in DeliverEnd."""
        buffer = self._buffer + data
        start = 0
        events: list[Opening | Dispatch | Part | Avoid | Quit] = []
        while True:
            if self._inline is not None:
                tag, left = self._inline
                octets = buffer[start : start + left]
                start += len(octets)
                left -= len(octets)
                if octets or not left:
                    events.append(Part(tag, octets, not left))
                self._inline = (tag, left) if left else None
                if left:
                    break
            end = buffer.find(b"\n", start)
            if end < 0:
                break
            self._take(*parse(buffer[start:end]), events)
            start = end + 1
        self._buffer = buffer[start:]
        if len(self._buffer) >= LINE_LIMIT:
            raise RemoteProtocolError(f"a line longer than {LINE_LIMIT} octets")
        return events

    def _take(
        self, word: str, match: Match[bytes], events: list[Opening | Dispatch | Part | Avoid | Quit]
    ) -> None:
        if word not in FROM_DELIVER:
            raise RemoteProtocolError(f"{word!r} is not a word for deliver")
        self._state = walk(SESSION, self._state, word)
        if word in ("job", "rcpt", "param", "send", "body"):
            self._take_job(word, int(match[1]), match, events)
        elif word == "hello":
            self._names = decode_words(match)[1:]
        elif word == "option":
            name, value = decode_words(match)
            self._options.append((name, value))
            if len(self._options) > LINE_LIMIT:
                raise RemoteProtocolError("too many options")
        elif word == "go":
            channel, queue, hostname = self._names
            if not dict(self._options).get("jobs", "1").isdecimal():
                raise RemoteProtocolError("option jobs is not a number")
            events.append(Opening(channel, queue, hostname, tuple(self._options)))
        elif word == "avoid":
            events.append(read_avoid(match))
        else:
            events.append(Quit())

    def _take_job(
        self,
        word: str,
        tag: int,
        match: Match[bytes],
        events: list[Opening | Dispatch | Part | Avoid | Quit],
    ) -> None:
        state = walk(JOB[self._body], self._jobs.get(tag, "absent"), word)
        if word == "job":
            if len(self._jobs) >= self._limit:
                raise RemoteProtocolError(f"more than {self._limit} jobs at once")
            self._gathering[tag] = (read_job(match), {})
        elif word == "rcpt":
            recipient = read_recipient(match)
            recipients = self._gathering[tag][1]
            if recipient.index in recipients or len(recipients) >= RECIPIENT_LIMIT:
                raise RemoteProtocolError("a recipient twice in a job, or too many recipients")
            recipients[recipient.index] = recipient
        elif word == "param":
            job, recipients = self._gathering[tag]
            self._gathering[tag] = (with_param(match, job, recipients), recipients)
        self._jobs[tag] = state
        if state == "sent":
            self._start(tag, match if word == "body" else None, events)

    def _start(
        self,
        tag: int,
        body: Match[bytes] | None,
        events: list[Opening | Dispatch | Part | Avoid | Quit],
    ) -> None:
        job, recipients = self._gathering.pop(tag)
        self._untold[tag] = set(recipients)
        if any("SUCCESS" in r.notify for r in recipients.values() if r.notify):
            self._asking.add(tag)
        events.append(replace(job, recipients=tuple(recipients.values())))
        if body is not None:
            if int(body[2]) != job.size:
                raise RemoteProtocolError("a body that is not as long as its job said")
            self._inline = (tag, job.size)
