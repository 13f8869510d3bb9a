"""mailq: the queue as Postfix's postqueue shows it, as text (-p) and as JSON lines (-j).

Source   showq's long format and ``postqueue -j`` of Postfix 3.7.  "*" after an
         id: some recipient has not been tried yet, or is due now; "!": all its jobs are held.
"""

from __future__ import annotations

import json
import os
import sys
import time

from mta.arguments import FLAG, VALUE, read_options
from mta.config.load import load_config
from mta.errors import EX_TEMPFAIL, PosthouseError, UsageError, exit_code, spelt
from mta.listing import jobs, messages, path_text
from mta.machine.logline import printable
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mta.spool.entry import Entry

__all__ = ["json_lines", "mailq_main", "text_lines"]

_HEAD = ("----Queue ID-----", "--Size--", "----Arrival Time----", "--Sender/Recipient------")


def _row(first: str, size: str, when: str, who: str) -> str:
    return f"{first:<17} {size:>8} {when:<19} {who}"


def text_lines(entries: Iterator[Entry], now: float) -> Iterator[str]:
    """Yield the listing for people: header, a block for each message, the total."""
    octets = count = 0
    for message_id, group in messages(entries):
        if not count:
            yield _row(*_HEAD)
        count += 1
        octets += group[0].envelope.size
        yield from _block(message_id, group, now)
        yield ""
    if count:
        yield f"-- {octets // 1024} Kbytes in {count} Request{'s' if count > 1 else ''}."
    else:
        yield "Mail queue is empty"


def _block(message_id: str, group: list[Entry], now: float) -> Iterator[str]:
    envelope = group[0].envelope
    going = [entry for entry in group if entry.held is None]
    active = any(s.retry_at <= now for entry in going for _, s in entry.pending)
    sign = "!" if not going else "*" if active else ""
    when = time.ctime(arrived(message_id))[:19]
    path = printable(path_text(envelope.reverse_path))
    yield _row(message_id + sign, str(envelope.size), when, path)
    told = ""
    for entry in group:
        for recipient, state in entry.pending:
            why = str(state.outcome.reply) if state.outcome is not None else ""
            if why != told:
                yield f"{f'({printable(why)})':>78}" if why else ""
                told = why
            yield _row("", "", "", printable(str(recipient.mailbox)))


def json_lines(entries: Iterator[Entry], now: float) -> Iterator[str]:
    """Yield a JSON object for each message, with the fields of ``postqueue -j``."""
    for message_id, group in messages(entries):
        pending = [pair for entry in group for pair in entry.pending]
        waits = all(state.retry_at > now for _, state in pending)
        held = all(entry.held is not None for entry in group)
        recipients = []
        for recipient, state in pending:
            shown = {"address": str(recipient.mailbox)}
            if recipient.original is not None:
                shown = {"orig_address": str(recipient.original), **shown}
            if state.outcome is not None:
                shown["delay_reason"] = str(state.outcome.reply)
            recipients.append(shown)
        record = {
            "queue_name": "hold" if held else "deferred" if waits else "active",
            "queue_id": message_id,
            "arrival_time": int(arrived(message_id)),
            "message_size": group[0].envelope.size,
            "forced_expire": False,
            "sender": path_text(group[0].envelope.reverse_path),
            "recipients": recipients,
        }
        yield json.dumps(record)


def run(arguments: Sequence[str], now: float) -> None:
    """List the queue on stdout.  PosthouseError if it cannot be read."""
    short = {"j": FLAG, "p": FLAG, "v": FLAG, "C": VALUE}
    options, operands = read_options(arguments, short, {"config": VALUE, "json": FLAG})
    if operands:
        raise UsageError("usage: mailq [-j] [--config FILE]")
    given = dict(options)
    config = load_config(given.get("config", given.get("C")))
    lines = json_lines if "j" in given or "json" in given else text_lines
    for line in lines(jobs(Spool.open(config.spool)), now):
        print(line)


def mailq_main() -> int:
    """The command ``mailq``; returns its exit status."""
    try:
        run(sys.argv[1:], time.time())
        sys.stdout.flush()  # here, where a reader who has gone is no error
    except PosthouseError as error:
        print(spelt("mailq", error), file=sys.stderr)
        return exit_code(error)
    except (BrokenPipeError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would flush into it
        return 1
    except OSError as error:
        print(spelt("mailq", error), file=sys.stderr)
        return EX_TEMPFAIL
    return 0
