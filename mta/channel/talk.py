"""Both ends of a channel conversation, without its socket: octets in, events out.

``deliver`` talks to each of its channel programs through a DeliverEnd, a
program written in Python talks back through a ProgramEnd.  A program that
breaks the protocol raises RemoteProtocolError here, and then deliver defers
the jobs it had in flight: it fails nobody.

Source   man/channel.7; the words are of mta.channel.records.
State    The tables of mta.channel.states, which both ends walk.  Held: one
         unfinished line, and the recipients not yet told of the jobs in flight.

Invariants, each a property in tests/channel/test_talk.py
    T1   How the octets are cut into pieces changes no event.
    T2   Any interleaving of jobs ends with each recipient told exactly once and
         each job done exactly once, and both ends agree that nothing is in flight.
    T3   Whatever octets arrive, only RemoteProtocolError is raised.
    T4   A recipient of a job that settles ALL is told only together with ``done``.
    T5   No more jobs are in flight than the program declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from re import Match

from mta.channel.records import (
    ALL,
    EACH,
    FD,
    LINE_LIMIT,
    RECIPIENT_LIMIT,
    Answer,
    Dispatch,
    Done,
    Opening,
    Part,
    Quit,
    Told,
    decode_words,
    encode_answer,
    encode_dispatch,
    encode_done,
    encode_opening,
    encode_outcome,
    parse,
    read_job,
    read_outcome,
    read_recipient,
)
from mta.channel.states import FROM_DELIVER, FROM_PROGRAM, JOB, SESSION, walk
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import CHANNEL, Job, Outcome, Recipient, Reply
from mta.values import replace

__all__ = ["DeliverEnd", "Part", "ProgramEnd", "Quit"]

UNTOLD = Outcome(Reply(451, "4.3.0", "the channel program told no outcome"), CHANNEL)


class _Open:
    """A job in flight as deliver's end sees it."""

    __slots__ = ("held", "untold")

    def __init__(self, indexes: list[int]) -> None:
        self.untold: dict[int, None] = dict.fromkeys(indexes)
        self.held: list[Told] = []  # of a program that settles ALL, until ``done``


class DeliverEnd:
    """deliver's end of one conversation with one channel program.

    Send ``opening()`` first; feed what arrives to ``receive``; when it has
    returned an Answer, ``send_job`` while ``free`` is positive.
    """

    def __init__(
        self,
        channel: str,
        queue: str,
        hostname: str,
        options: Sequence[tuple[str, str]] = (),
        jobs: int = 1,
    ) -> None:
        """Offer at most ``jobs`` at once; ``options`` are told in order, names may repeat."""
        offer = (("jobs", str(jobs)), ("hostname", hostname))
        self._opening = Opening(channel, queue, hostname, (*offer, *options))
        self._offered = jobs
        self._state = "silent"
        self._partial = b""
        self._tag = 0
        self._open: dict[int, _Open] = {}
        self.answer: Answer | None = None

    @property
    def free(self) -> int:
        """How many more jobs may be sent now; 0 before the answer and after quit."""
        if self.answer is None or self._state != "open":
            return 0
        return self.answer.jobs - len(self._open)

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The tags of the jobs sent and not done, oldest first."""
        return tuple(self._open)

    def untold(self, tag: int) -> tuple[int, ...]:
        """Return the recipients of job ``tag`` whose outcome does not stand yet; () if done."""
        job = self._open.get(tag)
        if job is None:
            return ()
        return (*[i for told in job.held for i in told.indexes], *job.untold)

    def opening(self) -> bytes:
        """Return the greeting, once."""
        if self._state != "silent":
            raise LocalProtocolError("the channel program has been greeted already")
        for word in ("hello", "go"):
            self._state = SESSION[self._state, word]
        return encode_opening(self._opening)

    def send_job(
        self,
        job: Job,
        id: str,
        size: int,
        arrived: float,
        recipients: Sequence[Recipient],
        *,
        eight_bit: bool = False,
        smtputf8: bool = False,
    ) -> tuple[int, bytes]:
        """Return a new tag, and the lines that hand over ``recipients`` of ``job``.

        For a program that takes descriptors, pass the body's descriptor along
        with these octets (``socket.send_fds``).  Several jobs may go in one
        call with several descriptors, at most 250: the program takes the
        descriptors in the order they come, one for each ``send`` line, so
        after a partial send only the octets are sent again.  For a program
        that takes bodies inline, send exactly ``size`` octets of body next.
        Raises LocalProtocolError if no job is free or a field cannot be told.
        """
        answer = self.answer
        if answer is None or self.free < 1:
            raise LocalProtocolError("the channel program takes no more jobs now")
        if not 0 < len(recipients) <= RECIPIENT_LIMIT:
            raise LocalProtocolError(f"a job with {len(recipients)} recipients")
        tag = self._tag + 1
        opened = _Open([r.index for r in recipients])
        if len(opened.untold) != len(recipients):
            raise LocalProtocolError("two recipients of a job have one index")
        dispatch = Dispatch(
            tag,
            id,
            job.reverse_path,
            size,
            arrived,
            job.host,
            job.next_hop,
            eight_bit,
            smtputf8,
            tuple(recipients),
        )
        lines = encode_dispatch(dispatch, answer.body)
        self._tag = tag
        self._open[tag] = opened
        return tag, lines

    def quit(self) -> bytes:
        """Return the word that ends the conversation; b"" if it was said."""
        if self._state == "closing":
            return b""
        self._state = SESSION[self._state, "quit"]
        return b"quit\n"

    def receive(self, data: bytes) -> list[Answer | Told | Done]:
        """Return what the program said in ``data`` and before.

        Raises RemoteProtocolError with the reason if it broke the protocol;
        the conversation is over then.
        """
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) >= LINE_LIMIT:
            raise RemoteProtocolError(f"a line longer than {LINE_LIMIT} octets")
        events: list[Answer | Told | Done] = []
        for line in lines:
            word, match = parse(line, "answer")
            if word not in FROM_PROGRAM:
                raise RemoteProtocolError(f"{word!r} is not a word for a channel program")
            self._state = walk(SESSION, self._state, word)
            if word == "outcome":
                self._take_outcome(match, events)
            elif word == "done":
                self._take_done(int(match[1]), events)
            else:
                events.append(self._take_answer(match))
        return events

    def eof(self) -> None:
        """The program closed its end: RemoteProtocolError unless quit was said and all is done."""
        if self._partial:
            raise RemoteProtocolError("the channel program ended in the middle of a line")
        if self._open:
            raise RemoteProtocolError(
                f"the channel program ended with {len(self._open)} jobs in flight"
            )
        if self._state != "closing":
            raise RemoteProtocolError("the channel program ended unasked")

    def _take_answer(self, match: Match[bytes]) -> Answer:
        _, settles, jobs, body = decode_words(match)
        if int(jobs) > self._offered:
            raise RemoteProtocolError(f"{jobs} jobs at once, where {self._offered} were offered")
        if self.answer is not None:
            raise RemoteProtocolError("a second hello")
        self.answer = Answer(settles, int(jobs), body)
        return self.answer

    def _take_outcome(self, match: Match[bytes], events: list[Answer | Told | Done]) -> None:
        tag = int(match[1])
        job = self._open.get(tag)
        if job is None:
            raise RemoteProtocolError(f"an outcome for job {tag}, which is not in flight")
        outcome, relay = read_outcome(match)
        if match[2] == b"*":
            indexes = tuple(job.untold)
            job.untold.clear()
        else:
            indexes = (int(match[2]),)
            if indexes[0] not in job.untold:
                raise RemoteProtocolError(f"recipient {indexes[0]} of job {tag} is not to be told")
            del job.untold[indexes[0]]
        if indexes:
            settles_each = self.answer is not None and self.answer.settles == EACH
            (events if settles_each else job.held).append(Told(tag, indexes, outcome, relay))

    def _take_done(self, tag: int, events: list[Answer | Told | Done]) -> None:
        job = self._open.pop(tag, None)
        if job is None:
            raise RemoteProtocolError(f"done with job {tag}, which is not in flight")
        events += job.held
        if job.untold:
            events.append(Told(tag, tuple(job.untold), UNTOLD))
        events.append(Done(tag))


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
        self._inline: tuple[int, int] | None = None  # tag and octets of body still to come
        self._limit = 0

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
        return encode_answer(answer)

    def outcome(self, tag: int, index: int | None, outcome: Outcome, relay: str = "") -> bytes:
        """Return the line that tells recipient ``index`` of job ``tag``, or all untold if None.

        LocalProtocolError if the job is not in flight or the recipient was told.
        """
        self._say("outcome", tag)
        untold = self._untold[tag]
        if index is None:
            untold.clear()
        elif index in untold:
            untold.discard(index)
        else:
            raise LocalProtocolError(f"recipient {index} of job {tag} is not to be told")
        return encode_outcome(tag, index, outcome, relay)

    def done(self, tag: int) -> bytes:
        """Return the line that ends job ``tag``; LocalProtocolError unless all were told."""
        if self._untold.get(tag):
            raise LocalProtocolError(f"job {tag} has recipients that were not told")
        self._say("done", tag)
        del self._jobs[tag], self._untold[tag]
        return encode_done(tag)

    def _say(self, word: str, tag: int) -> None:
        state = self._jobs.get(tag, "absent")
        if (self._state, word) not in SESSION or (state, word) not in JOB[self._body]:
            raise LocalProtocolError(f"no {word!r} is due for job {tag}")
        self._jobs[tag] = JOB[self._body][state, word]

    def receive(self, data: bytes) -> list[Opening | Dispatch | Part | Quit]:
        """Return what deliver said in ``data`` and before; RemoteProtocolError as in DeliverEnd."""
        buffer = self._buffer + data
        start = 0
        events: list[Opening | Dispatch | Part | Quit] = []
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
        self, word: str, match: Match[bytes], events: list[Opening | Dispatch | Part | Quit]
    ) -> None:
        if word not in FROM_DELIVER:
            raise RemoteProtocolError(f"{word!r} is not a word for deliver")
        self._state = walk(SESSION, self._state, word)
        if word in ("job", "rcpt", "send", "body"):
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
        else:
            events.append(Quit())

    def _take_job(
        self,
        word: str,
        tag: int,
        match: Match[bytes],
        events: list[Opening | Dispatch | Part | Quit],
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
        self._jobs[tag] = state
        if state == "sent":
            self._start(tag, match if word == "body" else None, events)

    def _start(
        self,
        tag: int,
        body: Match[bytes] | None,
        events: list[Opening | Dispatch | Part | Quit],
    ) -> None:
        job, recipients = self._gathering.pop(tag)
        self._untold[tag] = set(recipients)
        events.append(replace(job, recipients=tuple(recipients.values())))
        if body is not None:
            if int(body[2]) != job.size:
                raise RemoteProtocolError("a body that is not as long as its job said")
            self._inline = (tag, job.size)
