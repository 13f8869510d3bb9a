"""Aliases: what a local name stands for, in the classic format.

A name is looked up whole, then without its "+" part; what it stands for is
looked up in turn.  A member that cannot be used is left out and reported, and
the rest gets its mail; a loop, or a list that cannot be read, refuses the whole
name, because guessing there would lose mail silently.

Source   aliases(5) of sendmail: ``:include:``, "|program", "/file", "owner-".
Trust    The alias file is the administrator's.  An include file may be anyone's,
         so it may name addresses only: no program, no file, no other list.
State    None but the tables given; an Expansion lives for one address.
Default  postmaster and mailer-daemon stand for someone even if no alias says so.

Invariants, each a property in tests/route/test_aliases.py
    R4   Expansion ends for every table: with leaves, faults, or one refusal.
    R5   No leaf is given twice, and none but "|", "/" members have an action.
    R6   A refused loop names a cycle that the table really has.
    R7   A name that lists itself is delivered to the mailbox of that name.
    R8   Text of an include file never becomes an action.
"""

from __future__ import annotations

from mta.address import local_names, parse_mailbox
from mta.errors import PosthouseError
from mta.types import Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Note = Callable[[str, str, str], None]  # subject, verdict, detail

__all__ = ["NO_MEMBER", "Aliases", "Expansion", "Leaf", "split_members"]

MAX_DEPTH = 20
MAX_LEAVES = 10_000
INCLUDE = ":include:"

NO_USER = Outcome(Reply(550, "5.1.1", "no such user here"))
UNREADABLE = Outcome(Reply(451, "4.3.5", "a list behind this address cannot be read now"))
TOO_DEEP = Outcome(Reply(550, "5.4.6", f"aliases stand for aliases more than {MAX_DEPTH} deep"))
NO_MEMBER = Outcome(Reply(550, "5.2.4", "no member of this address can be used"))
TOO_MANY = Outcome(Reply(550, "5.2.4", f"this address stands for more than {MAX_LEAVES} others"))


@frozen
class Leaf:
    """One end of an expansion: a mailbox, or an action taken in its name.

    ``owner`` is where trouble with it is to be reported, where an alias has one.
    """

    mailbox: Mailbox
    action: str
    owner: Mailbox | None


class Aliases:
    """The alias table, and the questions that expansion asks of its surroundings."""

    def __init__(
        self,
        table: Mapping[str, tuple[str, ...]],
        known_user: Callable[[str], bool],
        read_include: Callable[[str], str],
        is_local: Callable[[str], bool],
        first_user: str = "",
    ) -> None:
        """Expand by ``table`` (names in lower case → members as they were written).

        ``is_local(domain)`` is whether a domain's names are looked up here;
        ``read_include(path)`` raises OSError, ValueError or a PosthouseError
        where a list cannot or must not be read.  ``first_user`` gets what nobody
        was named for, "" meaning root.
        """
        self._table = table
        self._always = {"postmaster": (first_user or "root",), "mailer-daemon": ("postmaster",)}
        self.known_user = known_user
        self.read_include = read_include
        self.is_local = is_local

    def find(self, name: str) -> tuple[str, ...] | None:
        """Return what ``name``, in lower case, stands for; None if only for itself."""
        members = self._table.get(name)
        if members is None and name in self._always and not self.known_user(name):
            return self._always[name]
        return members

    def owner(self, name: str) -> str:
        """Return the alias that owns alias ``name``, or ""."""
        owner = "owner-owner" if name.startswith("owner-") else "owner-" + name
        return owner if owner != name and owner in self._table else ""

    def always(self, local: str) -> bool:
        """Whether ``local`` is one of the names that must resolve."""
        return local_names(local)[-1] in self._always

    def heir(self) -> str:
        """Return the user who gets their mail when their aliases are of no use, or ""."""
        users = (*self._always["postmaster"], "root")
        return next((user for user in users if self.known_user(user)), "")


class Expansion:
    """The walk from one local mailbox to its leaves; read its fields after run().

    ``leaves`` in the order of first appearance; ``faults`` are the members left
    out, each with the reason; ``refusal`` is that of the whole, or None.
    """

    def __init__(self, aliases: Aliases, note: Note | None = None) -> None:
        """Walk ``aliases``, telling ``note`` of each rule looked at."""
        self._aliases = aliases
        self._note = note
        self._stack: list[str] = []
        self._seen: set[str | tuple[str | Mailbox, str]] = set()
        self.leaves: list[Leaf] = []
        self.faults: list[tuple[str, str]] = []
        self.refusal: Outcome | None = None

    def run(self, mailbox: Mailbox) -> None:
        """Expand ``mailbox``, whose domain is local."""
        self._local(mailbox, None)

    def _local(self, mailbox: Mailbox, owner: Mailbox | None) -> None:
        """Expand a name of this machine: as an alias, else as a user, else not at all."""
        for name in local_names(mailbox.local):
            members = self._aliases.find(name)
            if self._note is not None:
                self._note(f"alias {name}", "no" if members is None else "yes", _some(members))
            if members is None:
                continue
            if self._stack and self._stack[-1] == name:
                break  # it lists itself: the mailbox of that name
            if name in self._stack:
                self._refuse_loop(name)
            elif name not in self._seen:
                self._seen.add(name)
                self._alias(name, members, mailbox.domain, owner)
            return
        self._user(mailbox, owner)

    def _user(self, mailbox: Mailbox, owner: Mailbox | None) -> None:
        for name in local_names(mailbox.local):
            known = self._aliases.known_user(name)
            self._say(f"user {name}", "yes" if known else "no", "")
            if known:
                self._leaf(mailbox, "", owner)
                return
        if self._stack:
            self._fault(str(mailbox), "neither an alias nor a user")
        else:
            self.refusal = NO_USER

    def _alias(
        self, name: str, members: tuple[str, ...], domain: str, owner: Mailbox | None
    ) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self.refusal = TOO_DEEP
            self._say(f"alias {name}", "refused", TOO_DEEP.reply.text)
            return
        reports = self._aliases.owner(name)
        if reports:
            self._say(f"alias {reports}", "yes", f"owner of {name}: its reverse-path from here on")
            owner = Mailbox(reports, domain)
        self._stack.append(name)
        for text in members:
            if self.refusal is None:
                self._member(text, domain, owner, trusted=True)
        self._stack.pop()

    def _member(self, text: str, domain: str, owner: Mailbox | None, *, trusted: bool) -> None:
        """Expand one member as it was written; an untrusted one is of an include file."""
        member = _bare(text)
        action = member[:1] in ("|", "/")
        include = member[: len(INCLUDE)].lower() == INCLUDE
        if not action and not include:
            self._address(text, member, domain, owner)
        elif not trusted:
            self._fault(text, "an include file may name addresses only")
        elif member in ("|", "/", INCLUDE) or not member.isprintable():
            self._fault(text, "names nothing, or holds a control character")
        elif action:
            self._leaf(Mailbox(self._stack[-1], domain), member, owner)
        else:
            self._include(member[len(INCLUDE) :].lstrip(" "), domain, owner)

    def _address(self, text: str, member: str, domain: str, owner: Mailbox | None) -> None:
        final = member[:1] == "\\"
        try:
            mailbox = parse_mailbox(member[final:], domain)
        except ValueError as reason:
            self._fault(text, str(reason))
            return
        if not self._aliases.is_local(mailbox.domain):
            self._leaf(mailbox, "", owner)
        elif final:
            self._user(mailbox, owner)
        else:
            self._local(mailbox, owner)

    def _include(self, path: str, domain: str, owner: Mailbox | None) -> None:
        if (INCLUDE, path) in self._seen:
            return
        self._seen.add((INCLUDE, path))
        try:
            content = self._aliases.read_include(path)
        except (OSError, ValueError, PosthouseError) as reason:
            self.refusal = UNREADABLE
            self._say(f"include {path}", "refused", str(reason))
            self.faults.append((f"include {path}", str(reason)))
            return
        members = split_members(content)
        self._say(f"include {path}", "yes", f"{len(members)} members")
        for text in members:
            if self.refusal is None:
                self._member(text, domain, owner, trusted=False)

    def _leaf(self, mailbox: Mailbox, action: str, owner: Mailbox | None) -> None:
        if (mailbox, action) in self._seen:
            return
        self._seen.add((mailbox, action))
        if len(self.leaves) >= MAX_LEAVES:
            self.refusal = TOO_MANY
            self._say("members", "refused", TOO_MANY.reply.text)
            return
        self.leaves.append(Leaf(mailbox, action, owner))

    def _refuse_loop(self, name: str) -> None:
        cycle = [*self._stack[self._stack.index(name) :], name]
        text = Reply.clean("alias loop: " + " -> ".join(cycle))
        self.refusal = Outcome(Reply(550, "5.4.6", text))
        self._say(f"alias {name}", "refused", text)

    def _fault(self, member: str, why: str) -> None:
        """Leave out ``member``, and go on with the rest."""
        self._say(f"member {member}", "refused", why)
        self.faults.append((f"member {member}", why))

    def _say(self, subject: str, verdict: str, detail: str) -> None:
        if self._note is not None:
            self._note(subject, verdict, detail)


def split_members(text: str) -> list[str]:
    """Return the members in ``text``: one a line or several between commas.

    ``#`` at the start of a line or after a blank begins a comment.  Commas and
    ``#`` inside double quotes are part of a member; quotes end with the line.
    """
    members: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        start, quoted, at, end = 0, False, 0, len(line)
        while at < end:
            c = line[at]
            if c == "\\":
                at += 1
            elif c == '"':
                quoted = not quoted
            elif c == "," and not quoted:
                members.append(line[start:at])
                start = at + 1
            elif c == "#" and not quoted and line[at - 1 : at] in ("", " ", "\t"):
                end = at
            at += 1
        members.append(line[start:end])
    return [m for m in (each.strip(" \t") for each in members) if m]


def _bare(text: str) -> str:
    """Return the member ``text`` without what people write around it.

    ``"|program"``, ``"/file"`` and ``":include:list"`` lose their quotes, and
    ``Some Name <address>`` its name.
    """
    if text[:1] == '"' and text[-1] == '"' and text[1:2] in ("|", "/", ":"):
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if text[-1:] == ">" and text[:1] not in ("|", "/", "<"):
        return text[text.rfind("<") :]
    return text


def _some(members: tuple[str, ...] | None, limit: int = 10) -> str:
    """Return the first ``limit`` members as a person would write them."""
    if members is None:
        return ""
    more = f" and {len(members) - limit} more" if len(members) > limit else ""
    return ", ".join(members[:limit]) + more
