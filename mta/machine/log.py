"""The log: one method for each event, written as text for people and as JSON for programs.

DIR/mail.log is what pflogsumm and logwatch read as Postfix's; DIR/events.jsonl
holds the same events for ``mta trace``, ``mta tail`` and whoever counts.  Every
process appends to the same two files, whole lines at a time.

Units    Times are float seconds since the epoch.
State    One buffer and one descriptor per file.  A line is on the file after
         flush(), after maybe_flush() at the latest a second later, or when 64 KiB wait.

Invariants, each a property in tests/machine/test_log.py
    L1   Whatever the disk does, no method raises: lines that cannot be written
         wait, up to 1 MiB; beyond it they are counted, and the count is logged.
    L2   A file that was renamed or removed is opened again within a second of writing.
    L3   A line that was cut short by a full disk is written again, whole.
"""

from __future__ import annotations

import os
import time
from json import JSONEncoder

from mta.errors import ConfigError
from mta.machine.logfile import LogFile
from mta.machine.logline import DEFAULT_LEVEL, SYSLOG_NAME, TEXT, printable
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from mta.types import Host, Outcome, Recipient, Reply, ReversePath, State

__all__ = ["EVENTS_FILE", "FORMATS", "TEXT_FILE", "Log"]

TEXT_FILE = "mail.log"
EVENTS_FILE = "events.jsonl"
FORMATS = ("postfix", "json")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_encode = JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Log:
    """The log of one process; every method is one event of mta-log(5)."""

    def __init__(
        self,
        directory: str,
        formats: tuple[str, ...],
        program: str,
        *,
        file: str = "",
        level: int = DEFAULT_LEVEL,
        hostname: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Log as ``program`` into ``directory`` in ``formats`` (of FORMATS).

        ``file`` replaces the name of the text log (deliver -L); ``level`` bounds the
        text log only (deliver -V), the JSON log always has every event.
        Raises ConfigError for a format this version does not write.
        """
        for name in formats:
            if name not in FORMATS:
                raise ConfigError(f"log format {name}: this version writes {', '.join(FORMATS)}")
        self._text = self._json = None
        if "postfix" in formats or file:
            self._text = LogFile(os.path.join(directory, file or TEXT_FILE))
        if "json" in formats:
            self._json = LogFile(os.path.join(directory, EVENTS_FILE))
        self._files = [f for f in (self._text, self._json) if f is not None]
        self._program = program
        self._level = level
        self._hostname = hostname or os.uname().nodename.split(".")[0] or "localhost"
        self._pid = os.getpid()
        self._who = _encode({"process": program, "pid": self._pid})[1:-1] + ","
        self._clock = clock
        self._flushed = 0.0
        self._second = -1
        self._classic = self._iso = ""

    def queued(
        self, id: str, reverse_path: ReversePath, size: int, recipients: int, origin: str
    ) -> None:
        """A message of ``size`` octets entered the queues."""
        fields = {"id": id, "from": str(reverse_path), "size": size, "recipients": recipients}
        self._event("queued", {**fields, "origin": origin})

    def attempt(
        self,
        id: str,
        queue: str,
        channel: str,
        program: str,
        recipient: Recipient,
        host: Host,
        relay: str,
        arrived: float,
        started: float,
        now: float,
        state: State,
        outcome: Outcome,
        kind: str = "",
    ) -> None:
        """A delivery to ``recipient`` was tried from ``started`` to ``now``; it is now ``state``.

        ``relay`` is who answered, as "mx.example[192.0.2.1]:25"; "" if nobody did.
        ``kind`` is the class of the trouble (dsn/classes.py), "" if there was none.
        """
        reply = outcome.reply
        waited, took = max(0.0, started - arrived), max(0.0, now - started)
        fields: dict[str, Any] = {"id": id, "queue": queue, "channel": channel, "program": program}
        fields.update(recipient=recipient.index, to=str(recipient.mailbox))
        if recipient.action:
            fields["action"] = recipient.action
        if recipient.original is not None:
            fields["original"] = str(recipient.original)
        fields.update(
            host=host,
            relay=relay,
            delay=round(max(0.0, now - arrived), 3),
            delays=(0, round(waited, 3), 0, round(took, 3)),
            state=state,
            code=reply.code,
            status=reply.status,
            text=reply.text,
            scope=outcome.scope,
        )
        if kind:
            fields["class"] = kind
        self._event("attempt", fields, now)

    def connected(self, client: str) -> None:
        """``client``, as "mx.example[192.0.2.1]", has connected to a listener."""
        self._event("connected", {"client": client})

    def disconnected(self, client: str, commands: Mapping[str, tuple[int, int]]) -> None:
        """``client`` is gone; of each word of ``commands``: how many it said, how many went well.

        The words are lower case, and few: unknown ones are counted as "unknown".
        """
        counts = {word: list(numbers) for word, numbers in commands.items()}
        self._event("disconnected", {"client": client, "commands": counts})

    def rejected(
        self,
        stage: str,
        client: str,
        reply: Reply,
        *,
        reverse_path: ReversePath | None = None,
        recipient: str = "",
        protocol: str = "",
        helo: str = "",
    ) -> None:
        """``client`` was refused with ``reply`` at ``stage``.

        That is CONNECT, EHLO, MAIL, RCPT, DATA, END-OF-MESSAGE or another word;
        ``reverse_path`` is None before MAIL.
        """
        fields: dict[str, Any] = {"stage": stage, "client": client, "code": reply.code}
        fields.update(status=reply.status, text=reply.text)
        if reverse_path is not None:
            fields["from"] = str(reverse_path)
        if recipient:
            fields["to"] = recipient
        self._event("rejected", {**fields, "protocol": protocol, "helo": helo})

    def lost_connection(self, after: str, client: str) -> None:
        """``client`` went without QUIT; ``after`` is the word it said last, or CONNECT."""
        self._event("lost_connection", {"after": after, "client": client})

    def timeout(self, after: str, client: str) -> None:
        """``client`` said nothing for too long; ``after`` as above."""
        self._event("timeout", {"after": after, "client": client})

    def tls_accepted(self, client: str, protocol: str, cipher: str, bits: int) -> None:
        """TLS was agreed with ``client``."""
        fields = {"client": client, "protocol": protocol, "cipher": cipher, "bits": bits}
        self._event("tls_accepted", fields)

    def auth_failed(self, client: str, mechanism: str, reason: str) -> None:
        """``client`` could not prove who it is."""
        self._event("auth_failed", {"client": client, "mechanism": mechanism, "reason": reason})

    def tls(
        self,
        domain: str,
        host: str,
        policy: str,
        result: str,
        protocol: str,
        cipher: str,
        level: str = "",
    ) -> None:
        """A channel program connected to ``host`` for ``domain``; see channel(7), "tls"."""
        fields = {"domain": domain, "host": host, "policy": policy, "result": result}
        self._event("tls", {**fields, "protocol": protocol, "cipher": cipher, "level": level})

    def tls_counters(
        self, domain: str, policy: str, successful: int, failures: Mapping[str, int]
    ) -> None:
        """So many connections since the last such line, ``failures`` by RFC 8460's words."""
        fields = {"domain": domain, "policy": policy, "successful": successful}
        self._event("tls_counters", {**fields, "failures": dict(failures)})

    def removed(self, id: str) -> None:
        """The last job of a message is finished, and the message gone."""
        self._event("removed", {"id": id})

    def notified(
        self, id: str, dsn_id: str, reverse_path: ReversePath, about: str = "failure"
    ) -> None:
        """A DSN about ``id`` was accepted as message ``dsn_id`` to ``reverse_path``.

        ``about`` is "failure"; "delay" or "success" where the DSN tells of no failure;
        "orphan" where the postmaster was told of a failure, since no author could be.
        """
        fields = {"id": id, "dsn": dsn_id, "to": str(reverse_path)}
        self._event("notified", {**fields, "about": about})

    def discarded(self, id: str, reverse_path: ReversePath, recipients: int) -> None:
        """Failures of so many recipients are told to nobody: a rule of mta.yaml wants that."""
        self._event("discarded", {"id": id, "from": str(reverse_path), "recipients": recipients})

    def unreported(self, id: str, recipient: Recipient) -> None:
        """A failure was reported to nobody, because its NOTIFY asked for that."""
        self._event("unreported", {"id": id, "to": str(recipient.mailbox)})

    def noted(self, id: str, number: int, queue: str, note: str, by: str, text: str) -> None:
        """An operator noted hold, release or due on a job."""
        fields = {"id": id, "number": number, "queue": queue, "note": note}
        self._event("noted", {**fields, "by": by, "text": text})

    def deleted(
        self, id: str, number: int, queue: str, recipients: Sequence[Recipient], by: str, text: str
    ) -> None:
        """An operator deleted a job; these recipients do not get it, and nobody is told."""
        fields = {"id": id, "number": number, "queue": queue}
        to = [str(recipient.mailbox) for recipient in recipients]
        self._event("deleted", {**fields, "to": to, "by": by, "text": text})

    def rerouted(self, id: str, number: int, queue: str, new: str, by: str, text: str) -> None:
        """A job goes another way, as message ``new``; ``by`` an operator, or deliver."""
        fields = {"id": id, "number": number, "queue": queue, "new": new}
        self._event("rerouted", {**fields, "by": by, "text": text})

    def suspended(self, what: str, by: str, until: float, text: str) -> None:
        """An operator has mail of ``what`` wait, as "host mx.test"; ``until`` 0.0 for ever."""
        fields = {"what": what, "by": by, "until": _iso(until) if until else ""}
        self._event("suspended", {**fields, "text": text})

    def resumed(self, what: str, by: str) -> None:
        """An operator let that mail go again."""
        self._event("resumed", {"what": what, "by": by})

    def dead_host(self, channel: str, host: Host, outcome: Outcome, until: float) -> None:
        """``host`` refused to talk, and is left alone until ``until``."""
        reply = outcome.reply
        fields = {"channel": channel, "host": host, "until": _iso(until)}
        said = {"code": reply.code, "status": reply.status, "text": reply.text}
        self._event("dead_host", {**fields, **said})

    def revived(self, channel: str, host: Host) -> None:
        """A dead host answered."""
        self._event("revived", {"channel": channel, "host": host})

    def demotion(self, channel: str, host: Host, to: str, begins: bool) -> None:
        """``host`` has failed for so long that ``channel`` leaves it to ``to``, or is well again.

        ``channel`` is the one that found out.
        """
        self._event("demotion", {"channel": channel, "host": host, "to": to, "begins": begins})

    def load_level(
        self, gauge: str, level: str, begins: bool, threshold: float, value: float
    ) -> None:
        """``level`` of mta.yaml's ``load`` begins to act on this process, or ends.

        ``gauge`` is load or pressure, which is ``value`` now.
        """
        fields = {"gauge": gauge, "level": level, "begins": begins, "threshold": threshold}
        self._event("load_level", {**fields, "value": round(value, 2)})

    def program_started(self, channel: str, pid: int) -> None:
        """A channel program was started."""
        self._event("program_started", {"channel": channel, "child": pid})

    def program_ended(self, channel: str, pid: int, status: int) -> None:
        """A channel program ended with ``status``: as in subprocess, -9 is signal 9."""
        self._event("program_ended", {"channel": channel, "child": pid, "exit": status})

    def started(self, program: str, arguments: Sequence[str]) -> None:
        """The process began its work."""
        self._event("started", {"command": program, "arguments": list(arguments)})

    def stopped(self, program: str) -> None:
        """The process ended its work in good order."""
        self._event("stopped", {"command": program})

    def warning(self, text: str) -> None:
        """Something a person should know."""
        self._event("warning", {"text": text})

    def trouble(self) -> str:
        """Return which file cannot be written and why, "" if all can; none is made otherwise."""
        found = [(file.path, file.trouble()) for file in self._files]
        return next((f"{path}: {reason}" for path, reason in found if reason), "")

    def flush(self) -> None:
        """Write every buffered line."""
        written = [file.flush() for file in self._files]
        if not all(written):
            return
        for file in self._files:
            if file.lost:
                name, lines, file.lost = os.path.basename(file.path), file.lost, 0
                self._event("lost", {"file": name, "lines": lines, "reason": file.reason})
                file.flush()

    def maybe_flush(self, now: float) -> None:
        """Write every buffered line if the last time was a second ago (any clock, one clock)."""
        if not 0.0 <= now - self._flushed < 1.0:
            self._flushed = now
            self.flush()

    def close(self) -> None:
        """Write every buffered line and close the files; a later event opens them again."""
        self.flush()
        for file in self._files:
            file.close()

    def _event(self, name: str, fields: dict[str, Any], now: float | None = None) -> None:
        now = self._clock() if now is None else now
        if int(now) != self._second:
            self._stamp(int(now))
        full = False
        if self._json is not None:
            head = f'{{"time":"{self._iso}.{int(now % 1 * 1000):03d}Z","event":"{name}",{self._who}'
            full = self._json.add(head + _encode(fields)[1:])
        if self._text is not None:
            level, lines = TEXT[name]
            if level <= self._level:
                for service, text in lines(fields):
                    tag = f"{SYSLOG_NAME}/{service or self._program}[{self._pid}]"
                    line = f"{self._classic} {self._hostname} {tag}: {text}"
                    full = self._text.add(printable(line)) or full
        if full:
            self.flush()

    def _stamp(self, second: int) -> None:
        """Make both time stamps of ``second``, once for all the events in it."""
        local, self._second = time.localtime(second), second
        clock = f"{local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"
        self._classic = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2} {clock}"
        self._iso = _iso(second)[:-1]


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
