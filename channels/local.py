"""local: deliver into the mailboxes of this machine, and do what aliases and users ask.

A recipient is a user, whose mail goes to a Maildir or an mbox, or where the
user's ``~/.forward`` says; or it is an action of the alias file, a program or
a file.  As root nothing is delivered as root: a child process becomes the user
(or nobody, for actions) first.

Source   Maildir, mbox(5), forward(5); the manual is man/local.8.
Options  mailbox_kind (maildir or mbox), mailbox (path with {user}), users
         (repeated; none: the system's accounts), forward (yes or no), submit
         (repeated: how to run submit), timeout (seconds, of a program).
State    None but the children in flight.

Invariants, each a property in tests/channels/test_local.py
    K1   A name that is no user, or would leave the mail root, touches no file.
    K2   No disk error and no defect of a forward file fails mail: it is deferred.
    K3   As root, every file and program of a user is made and run by that user.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Generator
from typing import BinaryIO

from mta.channel.records import EACH, Dispatch, Opening
from mta.errors import ConfigError
from mta.machine import maildir
from mta.machine.actions import Actions, Task
from mta.machine.body import UNCONVERTIBLE, deliver_header, loop_of, trouble
from mta.machine.forward import ForwardError, read_forward
from mta.machine.maildir import Place
from mta.machine.run import Account, Ran, Running, account
from mta.machine.serve import Service, Tell, run_program
from mta.types import RECIPIENT, Outcome, Reply
from mta.values import frozen

__all__ = ["Local", "open_program", "place_of", "safe_name"]

TIMEOUT = 300.0
JOBS = 20
NAME_LIMIT = 64

Steps = Generator[Running, Ran, Outcome]


@frozen
class User:
    """A user of this machine; ``who`` is None where only our own configuration knows him."""

    name: str
    who: Account | None


@frozen
class Local:
    """The options of a local channel."""

    kind: str
    mailbox: str
    users: tuple[str, ...] | None
    forward: bool
    hostname: str
    actions: Actions

    def deliver(
        self, dispatch: Dispatch, body: BinaryIO, tell: Tell
    ) -> Generator[Running, Ran, None]:
        """Deliver to each recipient, one after the other."""
        for recipient in dispatch.recipients:
            outcome = yield from self._recipient(Task(dispatch, recipient, body))
            tell(recipient.index, outcome, "")

    def _recipient(self, task: Task) -> Steps:
        action = task.recipient.action
        if action:
            loop = loop_of(task.body, task.recipient.mailbox)
            return loop or (yield from self.actions.act(task, action, None))
        user = self.find(task.recipient.mailbox.local)
        if user is None:
            text = f"no mailbox here for {task.recipient.mailbox}"
            return Outcome(Reply(550, "5.1.1", Reply.clean(text)), RECIPIENT)
        targets = self._targets(user)
        if isinstance(targets, Outcome):
            return targets
        if not targets:
            return (yield from self._mailbox(task, user))
        return (yield from self._forward(task, user, targets))

    def find(self, local: str) -> User | None:
        """Return the user that ``local`` names, also as name+extension or in capitals."""
        base = local.partition("+")[0]
        for name in dict.fromkeys((local, base, local.lower(), base.lower())):
            if not safe_name(name):
                continue
            if self.users is None:
                who = account(name)
                if who is not None:
                    return User(who.name, who)
            elif name in self.users:
                return User(name, None)
        return None

    def _targets(self, user: User) -> tuple[str, ...] | Outcome:
        """Return what the forward file of ``user`` says, () for his own mailbox, or a deferral."""
        who = user.who
        if who is None or not self.forward or os.geteuid() not in (0, who.uid):
            return ()
        try:
            return read_forward(who.home, who.uid)
        except NotADirectoryError:
            return ()
        except ForwardError as error:
            return Outcome(Reply(451, "4.2.0", Reply.clean(str(error))), RECIPIENT)
        except OSError as error:
            return trouble(error, f"~{user.name}/.forward")

    def _forward(self, task: Task, user: User, targets: tuple[str, ...]) -> Steps:
        """Do all that the forward file asks; the mail is done when all of it is."""
        loop = loop_of(task.body, task.recipient.mailbox)
        if loop is not None:
            return loop
        own, actions, addresses = self._sorted(task, user, targets)
        outcomes: list[Outcome] = []
        for action in actions:
            outcomes.append((yield from self.actions.act(task, action, user.who)))
        if addresses and task.dispatch.binary:
            outcomes.append(UNCONVERTIBLE)  # submit takes text
        elif addresses:
            outcomes.append((yield from self.actions.resubmit(task, addresses)))
        if own:
            outcomes.append((yield from self._mailbox(task, user)))
        return max(outcomes, key=lambda outcome: _GRAVITY[outcome.reply.code // 100])

    def _sorted(
        self, task: Task, user: User, targets: tuple[str, ...]
    ) -> tuple[bool, list[str], list[str]]:
        """Split ``targets``: the user's own mailbox or not, programs and files, addresses."""
        domain = task.recipient.mailbox.domain
        mine = {user.name, f"{user.name}@{domain}", str(task.recipient.mailbox)}
        own, actions, addresses = False, [], []
        for target in targets:
            name = target.removeprefix("\\")
            if name in mine:
                own = True
            elif target[0] in "|/":
                actions.append(target)
            else:
                addresses.append(name if "@" in name else f"{name}@{domain}")
        return own, actions, addresses

    def _mailbox(self, task: Task, user: User) -> Steps:
        header = deliver_header(task.dispatch.reverse_path, task.recipient.mailbox)
        place = place_of(self.mailbox, user.name)
        try:
            who = _writer(place, user)
        except OSError as error:
            return trouble(error, place.path)
        if who is not None and who.uid == 0:
            text = f"nothing is delivered as root: give {user.name} an alias"
            return Outcome(Reply(451, "4.3.5", text), RECIPIENT)
        if self.kind == "mbox":
            return (yield from self.actions.append(task, place.path, header, who))

        def work() -> str:
            raw = task.dispatch.binary
            maildir.deliver(place, header, task.body, time.time(), self.hostname, raw=raw)
            return "delivered to maildir"

        return (yield from self.actions.as_user(work, task.body, place.path, who))


_GRAVITY = {
    2: 0,
    5: 1,
    4: 2,
}  # a deferral hides a failure: what failed is tried again with the rest


def safe_name(name: str) -> bool:
    """Whether ``name`` can stand in a path: printable, short, no slash, no leading dot, no ".."."""
    return (
        0 < len(name) <= NAME_LIMIT
        and name.isprintable()
        and "/" not in name
        and ".." not in name
        and name[0] not in ".-"
        and not any(c.isspace() for c in name)
    )


def place_of(template: str, name: str) -> Place:
    """Return the mailbox of user ``name``: what stands before {user} must exist."""
    before = template.partition("{user}")[0]
    root = before[: before.rindex("/") + 1]
    return Place(root, template[len(root) :].replace("{user}", name))


def _writer(place: Place, user: User) -> Account | None:
    """Return whom the mailbox must be written as; None for ourselves.

    Root becomes the system account, or, for a user of our configuration, the
    owner of the directory; in a directory of its own it writes itself.
    """
    if os.geteuid() != 0 or user.who is not None:
        return user.who if os.geteuid() == 0 else None
    uid, gid = maildir.owner_of(place)
    return Account(str(uid), uid, gid, (gid,), "/", "") if uid != 0 else None


def _make_root(template: str) -> None:
    """Make the directory before {user} if only it is missing: above it may be an unmounted disk."""
    root = template.partition("{user}")[0].rpartition("/")[0]
    with contextlib.suppress(OSError):  # each delivery will say what is wrong
        os.mkdir(root, 0o755)


def open_program(opening: Opening) -> Service:
    """Return the service that ``opening`` asks for; ConfigError if its options are wrong."""
    kind, mailbox = opening.option("mailbox_kind", "maildir"), opening.option("mailbox")
    if kind not in ("maildir", "mbox"):
        raise ConfigError(f"channel {opening.channel}: mailbox_kind is maildir or mbox")
    if not mailbox.startswith("/") or "{user}" not in mailbox:
        raise ConfigError(f"channel {opening.channel}: mailbox is no absolute path with {{user}}")
    _make_root(mailbox)
    try:
        timeout = float(opening.option("timeout") or TIMEOUT) or TIMEOUT
    except ValueError:
        raise ConfigError(f"channel {opening.channel}: timeout is not a number") from None
    named = opening.every("users")
    local = Local(
        kind,
        mailbox,
        None if named in ((), ("system",)) else named,
        opening.option("forward", "yes") in ("yes", "true", "1"),
        opening.hostname,
        Actions(opening.every("submit"), timeout, opening.hostname),
    )
    return Service(EACH, JOBS, local.deliver)


if __name__ == "__main__":
    sys.exit(run_program("local", open_program))
