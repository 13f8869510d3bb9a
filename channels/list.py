"""list: send a message to all members of a mailing list, on behalf of its owner.

The list's message is submitted again, with the owner as reverse-path, and is
done with here: each member's copy then waits in the queue of its own channel,
so that a slow member holds nobody up and its failures go to the owner, not to
who wrote to the list.

Source   RFC 2919 (List-Id), RFC 5321 s3.9.2.  The manual is man/list.8.
Options  members (path of the member file, with {list}, {domain}), owner (an
         address, default owner-{list}@{domain}), submit (repeated: how to run
         submit), timeout (seconds), batch (members per message).
         DSN parameters end here: the list has delivered (RFC 3461 s5.2.7.3).
State    None.

Invariants, each a property in tests/channels/test_list.py
    I1   Nothing is submitted while a member cannot be routed for a temporary reason.
    I2   A recipient is told 250 only when submit has queued the message for every
         member that it does not refuse for good.
    I3   A message that went through this list is refused.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Generator
from typing import BinaryIO

from mta.channel.records import EACH, Dispatch, Opening
from mta.errors import ConfigError, PosthouseError
from mta.machine.actions import submit_environment
from mta.machine.body import UNCONVERTIBLE, fields, loop_of, prepared, trouble
from mta.machine.run import Ran, Running, start
from mta.machine.serve import Service, Tell, run_program
from mta.types import RECIPIENT, Mailbox, Outcome, Recipient, Reply
from mta.values import frozen

__all__ = ["Lists", "MemberError", "open_program", "read_members"]

TIMEOUT = 300.0
BATCH = 100
JOBS = 10
MEMBERS_LIMIT = 10_000_000  # octets of a member file

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.=-]{0,63}")
_ADDRESS = re.compile(r"[^\s<>,@\x00-\x20\x7f-][^\s<>,@\x00-\x20\x7f]*@[^\s<>,@\x00-\x20\x7f]+")
_REPLY = re.compile(r"(?P<class>[245])[0-9][0-9] (?P<status>[245]\.[0-9]{1,3}\.[0-9]{1,3}) ")


class MemberError(PosthouseError):
    """The member file cannot be used; the mail waits until it can."""


def read_members(path: str) -> tuple[str, ...]:
    """Return the addresses of a member file, each once: one a line, "#" begins a comment.

    Raises MemberError naming the line of anything else, OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        octets = file.read(MEMBERS_LIMIT + 1)
    if len(octets) > MEMBERS_LIMIT:
        raise MemberError(f"{path} is longer than {MEMBERS_LIMIT} octets")
    members: dict[str, None] = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        text = re.sub(rb"(^|[ \t])#.*", b"", line).strip(b" \t\r").decode("utf-8", "replace")
        if not text:
            continue
        if _ADDRESS.fullmatch(text) is None or "\ufffd" in text:
            raise MemberError(f"{path}:{number}: not an address")
        members[text] = None
    return tuple(members)


@frozen
class Lists:
    """The options of one list channel; ``timeout`` in seconds."""

    members: str
    owner: str
    submit: tuple[str, ...]
    timeout: float
    batch: int

    def deliver(
        self, dispatch: Dispatch, body: BinaryIO, tell: Tell
    ) -> Generator[Running, Ran, None]:
        """Send the message on to each list that is a recipient."""
        for recipient in dispatch.recipients:
            if dispatch.binary:
                outcome = UNCONVERTIBLE  # submit takes text
            else:
                outcome = yield from self._send_on(recipient, body, dispatch.requiretls)
            tell(recipient.index, outcome, "")

    def _send_on(
        self, recipient: Recipient, body: BinaryIO, requiretls: bool
    ) -> Generator[Running, Ran, Outcome]:
        mailbox = recipient.mailbox
        name = mailbox.local.lower()
        if _NAME.fullmatch(name) is None or ".." in name:
            return _unknown(mailbox)
        loop = loop_of(body, mailbox)
        if loop is not None:
            return loop
        members = self._members(name, mailbox)
        if isinstance(members, Outcome):
            return members
        owner = _filled(self.owner, name, mailbox)
        needs = ["--requiretls"] if requiretls else []
        return (yield from self._submit(mailbox, [*needs, "-f", owner], members, body))

    def _members(self, name: str, mailbox: Mailbox) -> tuple[str, ...] | Outcome:
        """Return the members of list ``name``, at least one, or what becomes of its mail."""
        path = _filled(self.members, name, mailbox)
        try:
            members = read_members(path)
        except FileNotFoundError:
            root = os.path.dirname(path)
            return _unknown(mailbox) if os.path.isdir(root) else _deferral(f"{root} does not exist")
        except OSError as error:
            return trouble(error, path)
        except MemberError as error:
            return _deferral(str(error))
        return members or Outcome(Reply(250, "2.0.0", f"list {name} has no members"), RECIPIENT)

    def _submit(
        self, list_: Mailbox, options: list[str], members: tuple[str, ...], body: BinaryIO
    ) -> Generator[Running, Ran, Outcome]:
        """Ask about every member first, then submit: a member that must wait makes all wait."""
        good: list[str] = []
        refused: list[str] = []
        for batch in _batches(members, self.batch):
            ran = yield self._verify(options[-1], batch)
            replies = ran.output.decode("utf-8", "replace").split("\n")
            answers = [_REPLY.match(reply) for reply in replies[1 : len(batch) + 1]]
            if ran.status or len(answers) < len(batch) or not _positive(replies[0]):
                return _deferral(f"submit: {ran.last_line or ran.status}")
            for member, reply, answer in zip(batch, replies[1:], answers, strict=False):
                if answer is None or answer["class"] == "4":
                    return _deferral(f"submit: {member}: {reply}")
                (good if answer["class"] == "2" else refused).append(member)
        if not good:
            return Outcome(Reply(554, "5.1.1", f"no member of {list_} can be reached"), RECIPIENT)
        with prepared(_header(list_, body), body) as text:
            for batch in _batches(tuple(good), self.batch):
                text.seek(0)
                argv = [*self.submit, "--submitted", "-v", *options, "--", *batch]
                ran = yield start(argv, text.fileno(), submit_environment(), self._deadline())
                if b"Submitted & queued (" not in ran.output:
                    return _deferral(f"submit: {ran.last_line or ran.status}")
        return _success(good, refused)

    def _verify(self, owner: str, batch: tuple[str, ...]) -> Running:
        """Start submit to say of each member whether it can be sent to, and to send nothing."""
        with tempfile.TemporaryFile() as asked:
            lines = [f"from {owner}", *[f"to {member}" for member in batch], "abort", "quit"]
            asked.write("".join([line + "\n" for line in lines]).encode())
            asked.seek(0)
            argv = [*self.submit, "--protocol"]
            return start(argv, asked.fileno(), submit_environment(), self._deadline())

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout


def _unknown(mailbox: Mailbox) -> Outcome:
    return Outcome(Reply(550, "5.1.1", f"no such list: {mailbox}"), RECIPIENT)


def _positive(reply: str) -> bool:
    answer = _REPLY.match(reply)
    return answer is not None and answer["class"] == "2"


def _success(good: list[str], refused: list[str]) -> Outcome:
    text = f"sent to {len(good)} members"
    if refused:
        text += f"; refused for good: {', '.join(refused)}"
    return Outcome(Reply(250, "2.0.0", Reply.clean(text)), RECIPIENT)


def _deferral(text: str) -> Outcome:
    return Outcome(Reply(451, "4.3.0", Reply.clean(text)), RECIPIENT)


def _filled(template: str, name: str, mailbox: Mailbox) -> str:
    return template.replace("{list}", name).replace("{domain}", mailbox.domain)


def _batches(members: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [members[n : n + size] for n in range(0, len(members), size)]


def _header(list_: Mailbox, body: BinaryIO) -> bytes:
    """Return what the list adds: the guard against loops, and List-Id where there is none."""
    header = f"Delivered-To: {list_}\n"
    if not fields(body, b"list-id"):
        header += f"List-Id: <{list_.local.lower()}.{list_.domain}>\n"
    return header.encode()


def open_program(opening: Opening) -> Service:
    """Return the service that ``opening`` asks for; ConfigError if its options are wrong."""
    members, submit = opening.option("members"), opening.every("submit")
    if not members.startswith("/"):
        raise ConfigError(f"channel {opening.channel}: members must be an absolute path")
    if not submit:
        raise ConfigError(f"channel {opening.channel}: no submit command was given")
    owner = opening.option("owner") or "owner-{list}@{domain}"
    try:
        timeout = float(opening.option("timeout") or TIMEOUT) or TIMEOUT
        batch = max(1, int(opening.option("batch") or BATCH))
    except ValueError:
        raise ConfigError(f"channel {opening.channel}: not a number") from None
    return Service(EACH, JOBS, Lists(members, owner, submit, timeout, batch).deliver)


if __name__ == "__main__":
    sys.exit(run_program("list", open_program))
