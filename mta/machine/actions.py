"""What local delivery does for a recipient besides writing its mailbox.

"|command" runs a program, "/file" appends to an mbox ("/directory/" delivers
into a Maildir, "/dev/null" forgets the message), an address gets the message
by ``submit``.  No shell is involved: a command is split into words as a shell
would split it, and nothing else of a shell happens.

Source   aliases(5), forward(5), sysexits.h.
Units    ``timeout`` seconds.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Generator
from typing import BinaryIO

from mta.channel.records import Dispatch
from mta.errors import PosthouseError
from mta.machine import maildir, mbox
from mta.machine.body import UNCONVERTIBLE, deliver_header, prepared, trouble
from mta.machine.maildir import Place
from mta.machine.run import Account, Ran, Running, account, fork, start
from mta.machine.sysexits import exit_outcome
from mta.types import RECIPIENT, Outcome, Recipient, Reply
from mta.values import frozen

__all__ = ["Actions", "Task", "submit_environment"]

PATH = "/usr/local/bin:/usr/bin:/bin"
PATIENCE = 30.0  # seconds that a child waits for the lock of an mbox
ENVID_LIMIT = 100  # characters, RFC 3461 s4.4
QUEUED = b"Submitted & queued ("

_REFUSED = re.compile(r": (?P<class>[45])[0-9][0-9] [45]\.[0-9]{1,3}\.[0-9]{1,3} ")
_RESULT = re.compile(rb"(?P<code>[245][0-9][0-9]) (?P<status>[0-9.]+) (?P<text>.*)", re.DOTALL)

Steps = Generator[Running, Ran, Outcome]


@frozen
class Task:
    """One recipient of a job, and the body of that job."""

    dispatch: Dispatch
    recipient: Recipient
    body: BinaryIO


def submit_environment() -> dict[str, str]:
    """Return the environment of submit, which is ours: it finds its configuration as we would."""
    names = ("PATH", "HOME", "LANG", "MTA_CONFIG", "XDG_CONFIG_HOME", "TZ")
    return {name: os.environ[name] for name in names if name in os.environ}


@frozen
class Actions:
    """How to act: the command line of ``submit``, the time limit, the name of this machine."""

    submit: tuple[str, ...]
    timeout: float
    hostname: str

    def act(self, task: Task, action: str, who: Account | None) -> Steps:
        """Do "|command" or "/file" as ``who``; root, who never acts as itself, as nobody."""
        if os.geteuid() != 0:
            who = None
        else:
            who = who or account("nobody")
            if who is None or who.uid == 0:
                return _deferral("4.3.5", f"nothing is delivered as root: {action}")
        if action.startswith("|"):
            return (yield from self._program(task, action[1:], who))
        if action == "/dev/null":
            return _done("discarded to /dev/null")
        header = deliver_header(task.dispatch.reverse_path, task.recipient.mailbox)
        if not action.endswith("/"):
            return (yield from self.append(task, action, header, who))
        root, name = os.path.split(action.rstrip("/"))
        place = Place(root, name)

        def work() -> str:
            raw = task.dispatch.binary
            maildir.deliver(place, header, task.body, time.time(), self.hostname, raw=raw)
            return "delivered to maildir"

        return (yield from self.as_user(work, task.body, action, who))

    def append(self, task: Task, path: str, header: bytes, who: Account | None) -> Steps:
        """Append to an mbox as ``who``: at once if nobody holds it, else a child waits for it."""
        if task.dispatch.binary:
            return UNCONVERTIBLE
        from_ = mbox.from_line(task.dispatch.reverse_path, time.time())

        def work(patience: float) -> Callable[[], str]:
            def append() -> str:
                mbox.append(path, from_, header, task.body, patience)
                return "delivered to mbox"

            return append

        if who is None:
            try:
                return _attempt(work(0.0), path)
            except mbox.BusyError:
                pass  # a child may wait for the lock, we may not
        return (yield from self._child(work(PATIENCE), task.body, path, who))

    def as_user(
        self, work: Callable[[], str], body: BinaryIO, path: str, who: Account | None
    ) -> Steps:
        """Do ``work`` here and now, or as ``who`` in a child; its errors are deferrals."""
        if who is not None:
            return (yield from self._child(work, body, path, who))
        return _attempt(work, path)

    def _child(
        self, work: Callable[[], str], body: BinaryIO, path: str, who: Account | None
    ) -> Steps:
        def result() -> bytes:
            try:
                reply = _attempt(work, path).reply
            except PosthouseError as error:
                reply = _deferral("4.2.0", str(error)).reply
            return str(reply).encode("utf-8", "replace")

        deadline = time.monotonic() + self.timeout + PATIENCE
        ran = yield fork(result, (body.fileno(),), deadline, who)
        match = _RESULT.fullmatch(ran.output)
        if ran.status or ran.timed_out or match is None:
            return _deferral("4.3.0", f"{path}: {ran.last_line or f'ended with {ran.status}'}")
        code, status, text = (part.decode("utf-8", "replace") for part in match.groups())
        return Outcome(Reply(int(code), status, Reply.clean(text)), RECIPIENT)

    def _program(self, task: Task, command: str, who: Account | None) -> Steps:
        try:
            argv = shlex.split(command)
        except ValueError as error:
            return _deferral("4.3.5", f"command {command!r}: {error}")
        if not argv or not argv[0].startswith("/"):
            return _deferral("4.3.5", f"command {command!r} does not begin with an absolute path")
        header = deliver_header(task.dispatch.reverse_path, task.recipient.mailbox)
        deadline = time.monotonic() + self.timeout
        variables = _environment(task, who, self.hostname)
        try:
            with prepared(header, task.body, crlf=task.dispatch.binary) as text:
                running = start(argv, text.fileno(), variables, deadline, who=who)
        except OSError as error:
            return trouble(error, f"cannot start {argv[0]}")
        return exit_outcome((yield running), os.path.basename(argv[0]))

    def resubmit(self, task: Task, addresses: list[str]) -> Steps:
        """Send the message on to ``addresses`` with its reverse-path, marked against loops."""
        if not self.submit:
            return _deferral("4.3.5", "no submit command was given: cannot forward")
        reverse_path = str(task.dispatch.reverse_path) or "<>"
        asked = _asked(task)
        argv = [*self.submit, "--submitted", "-v", "-f", reverse_path, *asked, "--", *addresses]
        header = f"Delivered-To: {task.recipient.mailbox}\n".encode()
        deadline = time.monotonic() + self.timeout
        try:
            with prepared(header, task.body) as text:
                running = start(argv, text.fileno(), submit_environment(), deadline)
        except OSError as error:
            return trouble(error, "cannot start submit")
        ran = yield running
        refusals = [
            (match["class"], line)
            for line in ran.output.decode("utf-8", "replace").split("\n")
            if (match := _REFUSED.search(line)) is not None
        ]
        if any(class_ == "4" for class_, _ in refusals):
            return _deferral("4.2.4", next(line for class_, line in refusals if class_ == "4"))
        if refusals:
            why = Reply.clean(f"forwarding: {refusals[0][1]}")
            return Outcome(Reply(554, "5.2.4", why), RECIPIENT)
        if QUEUED not in ran.output:
            return _deferral("4.3.0", f"forwarding: {ran.last_line or f'status {ran.status}'}")
        return _done(f"forwarded to {', '.join(addresses)}")


def _asked(task: Task) -> list[str]:
    """Return the options that hand on what the message needs and asked of DSNs.

    RFC 3461 s5.2.7.1.  Success is reported by us, when the message has been forwarded.
    """
    words = [word for word in task.recipient.notify.split(",") if word != "SUCCESS"]
    notify = ["-N", ",".join(words) or "never"] if task.recipient.notify else []
    ret = ["-R", task.dispatch.ret] if task.dispatch.ret else []
    envid = task.dispatch.envid  # foreign: what submit would refuse must not stop the mail
    good = envid.isascii() and envid.isprintable() and 0 < len(envid) <= ENVID_LIMIT
    tls = ["--requiretls"] if task.dispatch.requiretls else []  # RFC 8689 s6
    return [*notify, *ret, *(["-V", envid] if good else []), *tls]


def _environment(task: Task, who: Account | None, hostname: str) -> dict[str, str]:
    """Return the whole environment of a user's program."""
    mailbox = task.recipient.mailbox
    user, _, extension = mailbox.local.partition("+")
    name = who.name if who is not None else user
    original = task.recipient.original
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": who.home if who is not None else "/",
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/sh",
        "SENDER": str(task.dispatch.reverse_path),
        "RECIPIENT": str(mailbox),
        "ORIGINAL_RECIPIENT": str(mailbox if original is None else original),
        "EXTENSION": extension,
        "LOCAL": mailbox.local,
        "DOMAIN": mailbox.domain,
        "MESSAGE_ID": task.dispatch.id,
        "HOSTNAME": hostname,
    }


def _attempt(work: Callable[[], str], path: str) -> Outcome:
    """Return what comes of ``work``, which returns its text; an error of the disk is a deferral."""
    try:
        return _done(work())
    except OSError as error:
        return trouble(error, path)


def _done(text: str) -> Outcome:
    return Outcome(Reply(250, "2.0.0", Reply.clean(text)), RECIPIENT)


def _deferral(status: str, text: str) -> Outcome:
    return Outcome(Reply(451, status, Reply.clean(text)), RECIPIENT)
