"""The router: where a mailbox's mail goes, or why it goes nowhere.

One walk for every way in: the channel table names the channel of the domain;
if that channel delivers on this machine, aliases and users say who it is.  The
answer is a value with all targets or a refusal, and on request every rule that
was looked at, which is what ``mta route`` prints.

Source   RFC 5321 s3.9 (aliases and lists), s4.5.1 (postmaster always resolves);
         RFC 3463 for the status of a refusal.
State    None: the same question has the same answer until the tables change.

Invariants, each a property in tests/route/test_router.py
    R9   An answer has targets, or an outcome that is not positive, never both.
    R10  A domain of a channel that is not local has one target: itself, with
         the domain as host and the row's next hop; no alias or user is asked.
    R11  postmaster and mailer-daemon resolve in every local domain, whatever
         the aliases say, if there is a first user or root.
    R12  explain adds the steps and changes nothing else.
    R13  No text of an answer has a control character.
"""

from __future__ import annotations

from mta.address import local_names
from mta.route.aliases import NO_MEMBER, Aliases, Expansion, Leaf
from mta.types import Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from mta.route.table import ChannelTable, Match
    from mta.types import Host

__all__ = ["Routed", "Router", "Step", "Target", "as_dict", "render_text"]

NO_CHANNEL = Outcome(Reply(550, "5.1.2", "no channel knows this host"))
NO_POSTMASTER = Outcome(Reply(451, "4.3.5", "no user here is postmaster yet"))


@frozen
class Step:
    """One rule that was looked at: ``verdict`` is "yes", "no" or "refused"."""

    subject: str
    verdict: str
    detail: str


@frozen
class Target:
    """One place that mail for an address goes to.

    ``host`` is "" on a channel that delivers here, else the domain; ``next_hop``
    is "" or the table row's own.  ``original`` is the address asked for, where
    an alias changed it; ``reverse_path`` the alias's owner, where it has one.
    """

    mailbox: Mailbox
    action: str
    original: Mailbox | None
    queue: str
    channel: str
    host: Host
    next_hop: str
    reverse_path: Mailbox | None


@frozen
class Routed:
    """The answer for one mailbox: its targets, or the outcome that refuses it.

    ``steps`` is filled on request only; ``left_out`` always: the members of an
    alias that could not be used while others could, for the administrator.
    """

    mailbox: Mailbox
    targets: tuple[Target, ...]
    outcome: Outcome | None
    steps: tuple[Step, ...] = ()
    left_out: tuple[Step, ...] = ()


class Router:
    """The channel table, the aliases and the users, as one question."""

    def __init__(
        self,
        table: ChannelTable,
        local_domains: Sequence[str],
        hostname: str,
        aliases: Mapping[str, tuple[str, ...]],
        known_user: Callable[[str], bool],
        read_include: Callable[[str], str],
        first_user: str = "",
    ) -> None:
        """Route by ``table``; ``aliases`` has names in lower case, members as written.

        ``known_user`` gets names in lower case.  ``read_include(path)`` raises
        OSError, ValueError or a PosthouseError if the list cannot be read.
        ``first_user`` is postmaster where no alias names one; "" means root.
        An address without a domain is of the first local domain.
        """
        self.table = table
        self.default_domain = (local_domains[0] if local_domains else hostname).lower()
        self._aliases = Aliases(aliases, known_user, read_include, self.is_local, first_user)

    def is_local(self, domain: Host) -> bool:
        """Whether mail for ``domain`` is delivered on this machine."""
        match = self.table.find(domain)
        return match is not None and match.channel.local

    def route(self, mailbox: Mailbox, explain: bool = False) -> Routed:
        """Return where mail for ``mailbox`` goes; with its steps if ``explain``."""
        if not mailbox.domain:
            mailbox = Mailbox(mailbox.local, self.default_domain)
        steps: list[Step] | None = [] if explain else None
        match = self.table.find(mailbox.domain)
        if steps is not None:
            self._explain(mailbox.domain, match, steps)
        if match is None:
            return Routed(mailbox, (), NO_CHANNEL, tuple(steps or ()))
        if match.channel.local:
            return self._local(mailbox, steps)
        target = _target(Leaf(mailbox, "", None), mailbox, match)
        return Routed(mailbox, (target,), None, tuple(steps or ()))

    def _local(self, mailbox: Mailbox, steps: list[Step] | None) -> Routed:
        """Expand ``mailbox`` and find the channel of each leaf."""

        def note(subject: str, verdict: str, detail: str) -> None:
            assert steps is not None
            steps.append(_step(subject, verdict, detail))

        expansion = Expansion(self._aliases, None if steps is None else note)
        expansion.run(mailbox)
        left_out = [_step(subject, "refused", why) for subject, why in expansion.faults]
        outcome = expansion.refusal
        targets: list[Target] = []
        for leaf in expansion.leaves if outcome is None else ():
            match = self.table.find(leaf.mailbox.domain)
            if steps is not None and leaf.mailbox.domain != mailbox.domain:
                self._explain(leaf.mailbox.domain, match, steps)
            if match is None:
                left_out.append(_step(f"member {leaf.mailbox}", "refused", NO_CHANNEL.reply.text))
            else:
                targets.append(_target(leaf, mailbox, match))
        if not targets:
            outcome = outcome or NO_MEMBER
            targets, outcome = self._last_resort(mailbox, outcome, steps)
        return Routed(mailbox, tuple(targets), outcome, tuple(steps or ()), tuple(left_out))

    def _last_resort(
        self, mailbox: Mailbox, outcome: Outcome, steps: list[Step] | None
    ) -> tuple[list[Target], Outcome | None]:
        """Return ``outcome``, save for the two names whose mail may not be refused."""
        if not self._aliases.always(mailbox.local):
            return [], outcome
        heir = self._aliases.heir()
        if steps is not None:
            subject = f"last resort for {local_names(mailbox.local)[-1]}"
            steps.append(_step(subject, "yes" if heir else "no", f"user {heir}" if heir else ""))
        match = self.table.find(mailbox.domain)
        if not heir or match is None:
            return [], NO_POSTMASTER
        return [_target(Leaf(Mailbox(heir, mailbox.domain), "", None), mailbox, match)], None

    def _explain(self, host: Host, match: Match | None, steps: list[Step]) -> None:
        """Add a step for each channel that was asked for ``host``."""
        channel = None if match is None else match.channel
        for each in self.table.before(channel):
            rows = len(each.patterns) + len(each.lines)
            steps.append(_step(f"channel {each.name}", "no", f"none of its {rows} rows has {host}"))
        if match is not None:
            via = f", next hop {match.row.next_hop}" if match.row.next_hop else ""
            detail = f"{match.row.pattern} ({match.row.where}) has {host}{via}"
            steps.append(_step(f"channel {match.channel.name}", "yes", detail))


def as_dict(routed: Routed) -> dict[str, Any]:
    """Return ``routed`` in plain types, for one line of JSON."""
    outcome = routed.outcome
    return {
        "address": str(routed.mailbox),
        "targets": [_target_as_dict(target) for target in routed.targets],
        "refusal": outcome and _reply_as_dict(outcome.reply),
        "left_out": [_step_as_dict(step) for step in routed.left_out],
        "steps": [_step_as_dict(step) for step in routed.steps],
    }


def render_text(routed: Routed) -> str:
    """Return ``routed`` for a person: the steps, then what they came to; no newline at the end."""
    width = max((len(step.subject) for step in routed.steps), default=0)
    lines = [str(routed.mailbox)]
    lines += [f"  {s.subject:{width}}  {s.verdict:7}  {s.detail}".rstrip(" ") for s in routed.steps]
    for target in routed.targets:
        shown = _target_as_dict(target)
        rest = "  ".join(f"{key}={shown[key]}" for key in _SHOWN if shown[key])
        lines.append(f"-> {target.action or target.mailbox}  {rest}")
    if routed.outcome is not None:
        lines.append(f"-> refused: {routed.outcome.reply}")
    lines += [f"-- left out: {s.subject}: {s.detail}" for s in routed.left_out]
    return "\n".join(lines)


_SHOWN = ("channel", "queue", "host", "next_hop", "local", "original", "reverse_path")


def _target(leaf: Leaf, asked: Mailbox, match: Match) -> Target:
    channel, mailbox = match.channel, leaf.mailbox
    here = channel.local
    return Target(
        mailbox,
        leaf.action,
        None if mailbox is asked or mailbox == asked else asked,
        channel.queue,
        channel.name,
        "" if here else mailbox.domain,
        "" if here else match.row.next_hop,
        leaf.owner,
    )


def _target_as_dict(target: Target) -> dict[str, Any]:
    return {
        "mailbox": str(target.mailbox),
        "local": target.mailbox.local,
        "action": target.action,
        "original": target.original and str(target.original),
        "channel": target.channel,
        "queue": target.queue,
        "host": target.host,
        "next_hop": target.next_hop,
        "reverse_path": target.reverse_path and str(target.reverse_path),
    }


def _reply_as_dict(reply: Reply) -> dict[str, Any]:
    return {"code": reply.code, "status": reply.status, "text": reply.text}


def _step(subject: str, verdict: str, detail: str) -> Step:
    """Make a Step; members and reasons may hold what a terminal would obey."""
    return Step(Reply.clean(subject), verdict, Reply.clean(detail))


def _step_as_dict(step: Step) -> dict[str, str]:
    return {"subject": step.subject, "verdict": step.verdict, "detail": step.detail}
