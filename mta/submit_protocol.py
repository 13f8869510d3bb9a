"""``submit --protocol``: many messages in one process, a reply for each address and message.

Lines of text that a person or a shell script can type, and a program can
pipeline: replies are written when all input at hand has been worked off, and the
messages that came with it share one sync.  An error in an address loses that
address, an error in a message that message; the conversation goes on.

Source   MMDF II submit(8); the words and their replies are man/submit.8's.
Units    Lines end with LF (or CRLF); the text is dot-stuffed, as in SMTP.
State    One message being made.  Nothing here grows with its size: a line is
         bounded, replies are flushed, recipients are limited.

Invariants, each a property in tests/test_submit_protocol.py
    P1   However the input is split, the replies and the messages are the same.
    P2   Each line outside a text gets one reply, except "data", and each text one.
    P3   A message's 250 leaves only when the message is durable.
"""

from __future__ import annotations

from mta import errors
from mta.accept import RefusedError
from mta.address import parse_reverse_path
from mta.dsn.notify import envid_of, notify_of, ret_of
from mta.errors import SpoolError
from mta.headers import DotText, LineEnds
from mta.submission import Caller, Submission, Terms
from mta.types import Reply, Wishes
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mta.accept import Door
    from mta.route.router import Routed
    from mta.submit_pace import Pacer
    from mta.types import ReversePath

__all__ = ["MAX_LINE", "Conversation", "serve"]

MAX_LINE = 2000  # octets; an address has at most 256
MAX_REPLIES = 1 << 15  # characters kept before they are written though more input is at hand

_OPTIONS = ("submitted", "notify=", "ret=", "envid=")


def serve(door: Door, who: Caller, octets: Iterator[bytes], write: Callable[[str], None]) -> int:
    """Talk until "quit" or the end of ``octets``; return the exit status.

    Replies go out before each further read, so that a client that waits gets them.
    """
    talk = Conversation(door, who, _pacer(door))
    for chunk in octets:
        for replies in talk.feed(chunk):
            write(replies)
        if talk.over:
            return errors.EX_OK
    broken = talk.end()
    write(broken)
    return errors.EX_DATAERR if broken else errors.EX_OK


def _pacer(door: Door) -> Pacer | None:
    """Return who slows the client; None where no queue has a target."""
    if not any(channel.target_age for channel in door.config.channels):
        return None
    from mta.submit_pace import Pacer

    return Pacer(door.config)


class Conversation:
    """One client: octets in, replies out; needs no file descriptors."""

    def __init__(self, door: Door, who: Caller, pacer: Pacer | None = None) -> None:
        self.over = False
        self._door = door
        self._who = who
        self._pacer = pacer
        self._ends = LineEnds()
        self._line = b""
        self._overlong = False
        self._replies: list[str] = []
        self._length = 0  # of the replies kept, in characters
        self._promised: list[int] = []  # which of them are true only after a sync
        self._text: DotText | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin a new message."""
        if self._pacer is not None:
            self._pacer.forget()
        self._path: ReversePath | None = None
        self._routed: list[Routed] = []
        self._submitted = False
        self._reports = ("", "", "")  # NOTIFY, RET, ENVID
        self._submission: Submission | None = None
        self._refusal: Reply | None = None

    def feed(self, octets: bytes) -> Iterator[str]:
        """Take octets; yield replies, each time whole lines."""
        data = self._ends.feed(octets)
        while data and not self.over:
            data = self._take_text(data) if self._text is not None else self._take_line(data)
            if self._length > MAX_REPLIES:
                yield self._flush()
        if self._replies:
            yield self._flush()

    def end(self) -> str:
        """The client is gone; return a reply if that broke a message off, else ""."""
        inside = self._text is not None
        if self._submission is not None:
            self._submission.abort()
        self._forget()
        self._text = None
        if inside:
            self._reply(451, "4.3.0", "end of file inside the text: the message is not accepted")
        return self._flush()

    def _flush(self) -> str:
        if self._promised:
            try:
                self._door.sync()
            except SpoolError as error:
                self._break_promises(error)
        replies = "".join(self._replies)
        self._replies, self._length, self._promised = [], 0, []
        return replies

    def _break_promises(self, error: SpoolError) -> None:
        """What was appended since the last sync is not accepted: say so instead."""
        for at in self._promised:
            self._replies[at] = f"{_unspooled(error)}\n"
        self._promised = []

    def _reply(self, code: int, status: str, text: str) -> None:
        self._say(f"{code} {status} {text}")

    def _say(self, line: str) -> None:
        self._replies.append(f"{line}\n")
        self._length += len(line)

    def _take_line(self, data: bytes) -> bytes:
        """Work off one line of ``data``, or keep its beginning; return what follows."""
        line, end, rest = data.partition(b"\n")
        line = self._line + line if self._line else line
        if len(line) > MAX_LINE:
            line, self._overlong = b"", True
        if not end:
            self._line = line
            return b""
        self._line = b""
        if self._overlong:
            self._overlong = False
            self._reply(500, "5.5.2", f"a line of more than {MAX_LINE} octets")
        else:
            self._obey(line)
        return rest

    def _obey(self, line: bytes) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self._reply(500, "5.5.2", "the line is not UTF-8")
            return
        word, _, rest = text.strip(" \t").partition(" ")
        action = _ACTIONS.get(word.lower())
        if action is None:
            known = ", ".join(_ACTIONS)
            self._reply(500, "5.5.2", f"unknown word; known are {known}")
        else:
            action(self, rest.strip(" \t"))

    def _obey_options(self, words: str) -> None:
        given = dict([_option(word) for word in words.split(" ") if word])
        if not set(given) <= set(_OPTIONS):
            self._reply(504, "5.5.4", f"unknown option; known are {', '.join(_OPTIONS)}")
            return
        try:
            self._reports = _reports(given)
        except ValueError as error:
            self._reply(501, "5.5.4", str(error))
            return
        self._submitted = "submitted" in given
        self._reply(250, "2.0.0", "ok")

    def _obey_from(self, path: str) -> None:
        if self._path is not None:
            self._reply(503, "5.5.1", "the reverse-path was given already")
            return
        try:
            if not path:
                raise ValueError("no reverse-path; the null path is <>")
            self._path = parse_reverse_path(path, self._door.domain)
        except ValueError as error:
            self._reply(501, "5.1.7", str(error))
        else:
            self._reply(250, "2.1.0", f"<{self._path}> ok")

    def _obey_to(self, address: str) -> None:
        try:
            self._door.check_recipients(len(self._routed) + 1)
        except RefusedError as error:
            self._say(str(error))
            return
        routed = self._door.verify(address)
        refusal = None
        if routed.outcome is None and self._pacer is not None:
            refusal = self._pacer.recipient(routed)
        if refusal is not None:
            self._say(str(refusal))
        elif routed.outcome is None:
            self._routed.append(routed)
            subjects = ", ".join(step.subject for step in routed.left_out)
            remark = f" but for {subjects}" if subjects else ""
            self._reply(250, "2.1.5", f"<{routed.mailbox}> ok{remark}")
        else:
            self._say(str(routed.outcome.reply))

    def _obey_data(self, rest: str) -> None:
        """The text follows in any case; if it cannot be taken it is read to its end."""
        self._text = DotText(stuffed=True)
        if not self._routed:
            self._refusal = Reply(554, "5.5.1", "no valid recipients")
            return
        path = self._door.own(self._who.login) if self._path is None else self._path
        notify, ret, envid = self._reports
        wishes = Wishes(ret=ret, envid=envid)
        terms = Terms(path, self._who, submitted=self._submitted, notify=notify, wishes=wishes)
        self._submission = Submission(self._door, terms, self._routed)

    def _obey_abort(self, rest: str) -> None:
        self._forget()
        self._reply(250, "2.0.0", "forgotten")

    def _obey_quit(self, rest: str) -> None:
        self.over = True
        self._reply(221, "2.0.0", "bye")

    def _take_text(self, data: bytes) -> bytes:
        """Work off ``data`` up to the line with the lone dot; return what follows that."""
        assert self._text is not None
        text, rest = self._text.feed(data)
        self._try(lambda submission: submission.feed(text))
        if self._text.ended:
            self._text = None
            self._try(self._finish)
            if self._refusal is not None:
                self._say(str(self._refusal))
            self._forget()
        return rest

    def _finish(self, submission: Submission) -> None:
        try:
            ident = submission.finish(sync=False)
        except SpoolError as error:
            self._break_promises(error)  # the writer has closed the segment that they share
            raise
        self._promised.append(len(self._replies))
        self._reply(250, "2.0.0", f"Submitted & queued ({ident})")

    def _try(self, step: Callable[[Submission], None]) -> None:
        """Do ``step``; if that ends the message, keep the reply for when its text has ended."""
        if self._submission is None:
            return
        try:
            step(self._submission)
            return
        except RefusedError as error:
            self._refusal = error.outcome.reply
        except SpoolError as error:
            self._refusal = _unspooled(error)
        self._submission.abort()
        self._submission = None


def _option(word: str) -> tuple[str, str]:
    """Return an option's name, with its "=" if it has one, and its value."""
    name, equals, value = word.partition("=")
    return name.lower() + equals, value


def _reports(given: dict[str, str]) -> tuple[str, str, str]:
    """Return NOTIFY, RET and ENVID of the options ``given``; ValueError if one is wrong."""
    notify, ret, envid = (given.get(name) for name in _OPTIONS[1:])
    return (
        "" if notify is None else notify_of(notify),
        "" if ret is None else ret_of(ret),
        "" if envid is None else envid_of(envid),
    )


def _unspooled(error: SpoolError) -> Reply:
    return Reply(451, "4.3.0", Reply.clean(str(error)))


_ACTIONS: dict[str, Callable[[Conversation, str], None]] = {
    "options": Conversation._obey_options,
    "from": Conversation._obey_from,
    "to": Conversation._obey_to,
    "data": Conversation._obey_data,
    "abort": Conversation._obey_abort,
    "quit": Conversation._obey_quit,
}
