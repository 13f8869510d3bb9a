"""submit: one message from standard input into the queues, or many over ``--protocol``.

The way in for people, scripts and programs; needs no daemon.  Silent on
success, because then the message is on the disk and routed; otherwise each
address or message that was refused is named with its reason, and the exit
status says which kind of trouble it was.

Source   MMDF II submit(8); sysexits.h.  The manual is man/submit.8.
State    None.  Start-up is the budget here: what a plain submission does not
         need is imported where it is needed.
"""

from __future__ import annotations

import os
import sys
import time

from mta import errors
from mta.accept import RefusedError, open_door
from mta.arguments import FLAG, VALUE, read_options, read_span
from mta.config.load import load_config
from mta.errors import PosthouseError, UsageError, exit_code, spelt
from mta.policy.modes import MODES
from mta.rank import chosen
from mta.submission import Submission, Terms, caller, verify_all
from mta.types import KINDS, Wishes
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

    from mta.submission import Refusal
    from mta.types import Mailbox, Reply, ReversePath

__all__ = ["Request", "leave", "main", "one_shot", "report", "reverse_path", "run", "say"]

CHUNK = 1 << 16

USAGE = """\
usage: submit [-f path] [-t] [-F name] [-v] [options] [--] recipient...
       submit --protocol [--config file]

Takes one message from standard input and queues it for the recipients.
  -f path     reverse-path, to which failures are returned; <> for none
  -t          recipients also from To, Cc and Bcc (or Resent-...); cuts out Bcc
  -F name     full name for the From field, where the message has none
  -v          print the id of the queued message
  -N when     reports wanted: never, or some of success,failure,delay
  -R what     what a report of failure returns: full or hdrs
  -V id       the name under which reports speak of the message
  --mode how  background, interactive (tried before submit returns), queue or defer
  --class what  urgent, normal or bulk, whatever the header says
  --expire time  give it up after this long, as 30m or 2h, if the channel does not before
  --requiretls only over TLS with a checked certificate, or not at all
  --submitted add nothing but a trace field to the header
  --json      print the outcome as one JSON object
  --protocol  many messages over stdin and stdout: see submit(8)
  --config file, --help, --version
"""

_SHORT = {
    "f": VALUE, "F": VALUE, "N": VALUE, "R": VALUE, "V": VALUE,
    "h": FLAG, "i": FLAG, "t": FLAG, "v": FLAG,
}  # fmt: skip
_LONG = {
    "class": VALUE, "config": VALUE, "expire": VALUE, "help": FLAG, "json": FLAG, "mode": VALUE,
    "protocol": FLAG,
    "requiretls": FLAG, "submitted": FLAG, "verbose": FLAG, "version": FLAG,
}  # fmt: skip

# The kinds of refusal that sysexits.h knows; any other 5yz is EX_UNAVAILABLE.
_STATUS_EXITS = {
    "5.1.1": errors.EX_NOUSER,
    "5.1.2": errors.EX_NOHOST,
    "5.4.4": errors.EX_NOHOST,
    "5.1.3": errors.EX_DATAERR,
    "5.1.7": errors.EX_DATAERR,
    "5.3.4": errors.EX_DATAERR,
    "5.4.6": errors.EX_DATAERR,
    "5.6.0": errors.EX_DATAERR,
    "5.5.1": errors.EX_USAGE,
}


@frozen
class Request:
    """What a command line of submit or sendmail asks for.

    ``reverse_path`` is None for the caller's own address; ``notify``, ``ret`` and
    ``envid`` are as they were given, not checked yet.
    """

    recipients: tuple[str, ...]
    program: str = "submit"
    reverse_path: str | None = None
    full_name: str = ""
    from_header: bool = False
    submitted: bool = False
    verbose: bool = False
    json: bool = False
    config: str | None = None
    notify: str = ""
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    expire: str = ""
    mode: str = ""
    kind: str = ""


def main() -> NoReturn:
    """Run submit with the process's arguments; end the process."""
    leave(guarded("submit", lambda: run(sys.argv[1:])))


def leave(status: int) -> NoReturn:
    """End the process at once.

    Tearing the interpreter down costs a fifth of a plain submission and does
    nothing for it: all output is unbuffered, and the kernel closes the rest.
    """
    os._exit(status)


def guarded(program: str, command: Callable[[], int]) -> int:
    """Return the status of ``command``; report what stops it as one line and its exit status."""
    try:
        return command()
    except PosthouseError as error:
        report(program, str(error))
        return exit_code(error)
    except BrokenPipeError:
        return errors.EX_OK
    except KeyboardInterrupt:
        return 130
    except (OSError, MemoryError) as error:
        report(program, str(error))
        return errors.EX_TEMPFAIL


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    options, operands = read_options(arguments, _SHORT, _LONG)
    chosen = {name for name, _ in options}
    if chosen & {"help", "h"}:
        say(1, USAGE)
        return errors.EX_OK
    if "version" in chosen:
        from mta import __version__

        say(1, f"submit (Posthouse) {__version__}\n")
        return errors.EX_OK
    if "protocol" in chosen:
        return _protocol(options, operands)
    return one_shot(_request(options, operands), read_input(0))


def _protocol(options: Sequence[tuple[str, str]], operands: Sequence[str]) -> int:
    if operands or any(name not in ("protocol", "config") for name, _ in options):
        raise UsageError("--protocol takes no recipients and no option but --config")
    from mta.submit_protocol import serve

    door = open_door(load_config(dict(options).get("config")))
    return serve(door, caller(), read_input(0), lambda text: say(1, text))


def _request(options: Sequence[tuple[str, str]], operands: Sequence[str]) -> Request:
    value = dict(options)
    request = Request(
        tuple(operands),
        "submit",
        value.get("f"),
        value.get("F", ""),
        "t" in value,
        "submitted" in value,
        "v" in value or "verbose" in value,
        "json" in value,
        value.get("config"),
        value.get("N", ""),
        value.get("R", ""),
        value.get("V", ""),
        "requiretls" in value,
        value.get("expire", ""),
        value.get("mode", ""),
        value.get("class", ""),
    )
    if request.kind and request.kind not in KINDS:
        raise UsageError(f"--class is one of {', '.join(KINDS)}")
    if request.mode and request.mode not in MODES:
        raise UsageError(f"--mode is one of {', '.join(MODES)}")
    if not operands and not request.from_header:
        raise UsageError("no recipient; try submit --help")
    return request


def read_input(fd: int) -> Iterator[bytes]:
    """Yield what can be read from ``fd``, up to 64 KiB at a time, until its end."""
    while chunk := os.read(fd, CHUNK):
        yield chunk


def one_shot(request: Request, octets: Iterator[bytes]) -> int:
    """Submit the message ``octets`` as ``request`` says; return the exit status.

    The good recipients get it even when others are refused; those are named.
    """
    notify, ret, envid = _reports(request)
    door = open_door(load_config(request.config))
    who = caller()
    terms = Terms(
        reverse_path(request.reverse_path, door.own(who.login)),
        who,
        _checked_name(request.full_name),
        request.from_header,
        request.submitted,
        notify,
        chosen(_wishes(request, ret, envid), request.kind),
        request.mode,
        attached=True,
    )
    good, refused = verify_all(door, list(request.recipients))
    submission = None
    ident, error = "", None
    if good or request.from_header:
        submission = Submission(door, terms, good)
        try:
            ident = _feed(submission, octets)
        except RefusedError as e:
            error = e
        refused = refused + submission.refused
        if not request.json:
            for remark in submission.left_out:
                report(request.program, remark)
    _tell(request, ident, refused, error, door.waits)
    if ident and submission is not None and submission.tries and not door.waits:
        from mta.interactive import attempt

        attempt(door.config, ident, submission.tries, aloud=request.verbose and not request.json)
    return _status(ident, refused, error)


def _feed(submission: Submission, octets: Iterator[bytes]) -> str:
    try:
        for chunk in octets:
            submission.feed(chunk)
        return submission.finish()
    finally:
        submission.abort()


def _reports(request: Request) -> tuple[str, str, str]:
    """Return what is asked of reports: NOTIFY, RET, ENVID; UsageError names a wrong option."""
    given = (("-N", request.notify), ("-R", request.ret), ("-V", request.envid))
    if not any(text for _, text in given):
        return "", "", ""
    from mta.dsn.notify import envid_of, notify_of, ret_of

    made = []
    for (option, text), check in zip(given, (notify_of, ret_of, envid_of), strict=True):
        try:
            made.append(check(text) if text else "")
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
    return made[0], made[1], made[2]


def _wishes(request: Request, ret: str, envid: str) -> Wishes:
    expires = _expires(request.expire)
    return Wishes(ret=ret, envid=envid, requiretls=request.requiretls, expires=expires)


def _expires(given: str) -> float:
    """Return the wall time at which --expire gives the message up; 0.0 if it was not given."""
    return time.time() + read_span(given) if given else 0.0


def _checked_name(name: str) -> str:
    if not name.isprintable():
        raise UsageError("the full name holds a control character")
    return name


def reverse_path(given: str | None, own: Mailbox) -> ReversePath:
    """Return the reverse-path of ``-f``, or the caller's own; UsageError if it is none."""
    if given is None:
        return own
    from mta.address import parse_reverse_path

    try:
        return parse_reverse_path(given, own.domain)
    except ValueError as error:
        raise UsageError(f"reverse-path {shown(given)}: {error}") from None


def _tell(
    request: Request, ident: str, refused: list[Refusal], error: RefusedError | None, waits: str
) -> None:
    if request.json:
        from mta.submit_json import outcome_line

        say(1, outcome_line(ident, refused, error, waits))
        return
    for address, outcome in refused:
        report(request.program, f"{shown(address)}: {outcome.reply}")
    if error is not None and not (refused and error.outcome.reply.status == "5.5.1"):
        report(request.program, str(error))
    if ident and request.verbose:
        say(1, f"Submitted & queued ({ident})\n")
        if waits:
            say(1, f"It waits for the load to fall: {waits}\n")


def _status(ident: str, refused: list[Refusal], error: RefusedError | None) -> int:
    """Return the exit status; 75 only if nothing was queued and a later try may help."""
    replies = [outcome.reply for _, outcome in refused]
    if error is not None and error.outcome.reply.status != "5.5.1":
        return _kind(error.outcome.reply)
    if not replies:
        return _kind(error.outcome.reply) if error is not None else errors.EX_OK
    if not ident and any(reply.transient for reply in replies):
        return errors.EX_TEMPFAIL
    permanent = [reply for reply in replies if reply.permanent]
    return _kind(permanent[0]) if permanent else errors.EX_UNAVAILABLE


def _kind(reply: Reply) -> int:
    if reply.transient:
        return errors.EX_TEMPFAIL
    return _STATUS_EXITS.get(reply.status, errors.EX_UNAVAILABLE)


def shown(address: str) -> str:
    """Return a foreign address as it may stand on a terminal, in angle brackets."""
    text = address if address.isprintable() else ascii(address)[1:-1]
    return f"<{text.removeprefix('<').removesuffix('>')[:300]}>"


def say(fd: int, text: str) -> None:
    """Write ``text`` whole, unbuffered."""
    octets = text.encode("utf-8", "backslashreplace")
    while octets:
        octets = octets[os.write(fd, octets) :]


def report(program: str, text: str) -> None:
    """Name a trouble on standard error; a closed one is no trouble more."""
    try:
        say(2, f"{spelt(program, text)}\n")
    except OSError:
        pass
