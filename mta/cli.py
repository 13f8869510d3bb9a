"""mta: the umbrella command.  It parses, loads the configuration, and calls one function.

Exit statuses are those of sysexits.h; a wrong command line is 64.  What a
command needs is imported when it runs.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from mta import __version__
from mta.cli_control import control_commands
from mta.config.load import load_config
from mta.config.model import Config
from mta.errors import (
    EX_CONFIG,
    EX_OK,
    EX_TEMPFAIL,
    EX_USAGE,
    PosthouseError,
    exit_code,
    spelt,
)

__all__ = ["main", "mta"]

EX_NOTHING = 1  # what was asked for is not there
EX_INTERRUPTED = 130
_TICK = 0.2
_WHERE = "Use this mta.yaml instead of $MTA_CONFIG, the user's, /etc's."


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _print(lines: Iterable[str]) -> int:
    """Print ``lines``; return how many."""
    count = 0
    for line in lines:
        click.echo(line)
        count += 1
    return count


def _path(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return --config as it stands before or behind the command's name."""
    if value is not None or context.parent is None:
        return value
    before: str | None = context.parent.params.get("config")
    return before


def _load(context: click.Context, parameter: click.Parameter, value: str | None) -> Config:
    return load_config(_path(context, parameter, value))


_config_path = click.option("--config", "path", metavar="FILE", callback=_path, help=_WHERE)
_config = click.option("--config", metavar="FILE", callback=_load, help=_WHERE)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class _Number(click.FloatRange):
    """A number that time can be reckoned with: none is beyond MOST, and "nan" is none."""

    MOST = 1e6

    def __init__(self) -> None:
        super().__init__(0.0, self.MOST)

    def convert(self, value: Any, parameter: Any, context: Any) -> float:
        number = float(super().convert(value, parameter, context))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", parameter, context)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help=_WHERE)
@click.version_option(__version__, message="mta (Posthouse) %(version)s")
def mta(config: str | None) -> None:
    """Run and understand the Posthouse mail transfer agent."""


@mta.command()
@_config_path
@click.option("--try", "send", is_flag=True, help="Send one message the whole way, and trace it.")
def up(path: str | None, send: bool) -> int:
    """Start the configured daemons in the foreground; write a first mta.yaml if there is none."""
    from mta import demo

    config, written = demo.configure(path, load_config)
    if written:
        _say(f"wrote {config.path}")
    return demo.run(config, _say, send=send, follow=True)


@mta.command("demo")
@_config_path
def demo_(path: str | None) -> int:
    """Send one message the whole way, trace it, and stop; exit 0 if it arrived."""
    from mta import demo

    config, written = demo.configure(path, load_config)
    if written:
        _say(f"wrote {config.path}")
    return demo.run(config, _say, send=True, follow=False)


@mta.command()
@_config
def check(config: Config) -> int:
    """Read the configuration, and say what in it will not do (exit 78) or looks odd."""
    from mta import checking
    from mta.config import lint

    findings = checking.check(config)
    _print(lint.spell(config, finding) for finding in findings)
    return EX_CONFIG if any(finding.severity == "error" for finding in findings) else EX_OK


@mta.command()
@_config
@_json
@click.argument("address")
def route(config: Config, as_json: bool, address: str) -> int:
    """Explain where mail for ADDRESS goes: every rule, and the one that won."""
    from mta import explain

    text, status = explain.route_lines(explain.route(config, address), as_json=as_json)
    click.echo(text.rstrip("\n"))
    return status


@mta.command()
@_config
@_json
@click.option("--all", "everywhere", is_flag=True, help="However long it takes.")
@click.argument("subject", metavar="ID|ADDRESS")
def why(config: Config, as_json: bool, everywhere: bool, subject: str) -> int:
    """Say what keeps a message, or the mail for an address, and until when."""
    from mta import explain

    found = explain.find(config, subject, everywhere=everywhere)
    told = _print(explain.why(config, found, time.time(), as_json=as_json))
    left = explain.left_out(found)
    if told and left:
        click.echo(left, err=True)
    elif not told:
        raise _Nothing(f"nothing waits for {subject}{'; ' if left else ''}{left}")
    return EX_OK


@mta.command()
@_config
@_json
@click.option("--queue", metavar="NAME", multiple=True, help="Only this queue; may be repeated.")
@click.option("--host", metavar="HOST", default="", help="Only jobs for this host.")
@click.option("--deferred", is_flag=True, help="Only jobs that have been tried.")
def queue(config: Config, as_json: bool, queue: tuple[str, ...], host: str, deferred: bool) -> int:
    """List the jobs that wait, the oldest first, with state and reason."""
    from mta import listing
    from mta.control.wanted import check_queues

    wanted = listing.Wanted(queue, host, deferred)
    check_queues(config, queue)
    _print(listing.lines(config.spool, wanted, time.time(), as_json=as_json))
    return EX_OK


@mta.command("trace")
@_config
@_json
@click.argument("message_id", metavar="ID")
def trace_(config: Config, as_json: bool, message_id: str) -> int:
    """Show what happened to a message, and where it stands now."""
    from mta import trace

    lines = trace.records if as_json else trace.text
    if not _print(lines(config, message_id)):
        raise _Nothing(f"no trace of {message_id} in the log or the spool")
    return EX_OK


@mta.command()
@_config
@_json
@click.option("-n", "back", metavar="LINES", default=10, help="Begin LINES (10) before the end.")
@click.option("--once", is_flag=True, help="Do not wait for more.")
def tail(config: Config, as_json: bool, back: int, once: bool) -> int:
    """Follow the log, also through its rotation, until Ctrl-C."""
    from mta.tail import Tail

    follower = Tail(config.log, as_json=as_json, back=back)
    while True:
        for line in follower.lines():
            _say(line)
        if once:
            return EX_OK
        time.sleep(_TICK)


@mta.command("failures")
@_config
@_json
@click.option("--hours", metavar="N", type=_Number(), help="Only the last N hours.")
def losses_(config: Config, as_json: bool, hours: float | None) -> int:
    """Count what failed and what was deferred, by class, from the event log."""
    from mta import losses

    since = "" if hours is None else losses.since(time.time() - 3600 * hours)
    _print(losses.lines(config.log.dir, since, as_json=as_json))
    return EX_OK


@mta.command()
@_config
@_json
def status(config: Config, as_json: bool) -> int:
    """Show which daemons run, what waits in each queue, and why."""
    from mta import status

    _print(status.lines(config, time.time(), as_json=as_json))
    return EX_OK


@mta.command()
@_config
@_json
@click.option("--start", "act", flag_value="start", help="Start what does not run.")
@click.option("--stop", "act", flag_value="stop", help="Stop what runs, and wait for it.")
@click.option("--run", "act", flag_value="run", help="Become the daemon NAME.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=_Number(),
    default=60.0,
    help="Kill what has not stopped by then.",
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
def daemons(config: Config, as_json: bool, act: str, wait: float, names: tuple[str, ...]) -> int:
    """Name the daemons of mta.yaml, and tell which run; start or stop them."""
    from mta import daemons

    return daemons.command(config, act or "show", names, _say, as_json=as_json, patience=wait)


@mta.command()
@_config
@_json
@click.option("--for", "span", metavar="TIME", default="", help="For so long, as 2h.")
@click.option("--channel", metavar="NAME", default="", help="Only on this channel.")
@click.argument("act", type=click.Choice(["list", "revive", "bury"]))
@click.argument("hosts", metavar="[HOST...]", nargs=-1)
def host(
    config: Config, as_json: bool, span: str, channel: str, act: str, hosts: tuple[str, ...]
) -> int:
    """List the hosts that fail, have all delivers try one now, or leave it alone for a time."""
    from mta import hoststat

    if act == "list":
        _print(hoststat.lines(config, hosts, channel, time.time(), as_json=as_json))
        return EX_OK
    try:
        hoststat.act(config, act, hosts, span, channel, time.time())
    except hoststat.NobodyError as error:
        raise _Nothing(str(error)) from None
    return EX_OK


@mta.command()
@_config
def reload(config: Config) -> int:
    """Have all daemons read the configuration anew, if mta check finds no error in it."""
    from mta import reload

    try:
        return reload.reload(config, _say)
    except reload.NobodyError as error:
        raise _Nothing(str(error)) from None


control_commands(mta, _config, _json, _say)


@mta.command("password")
@click.option(
    "--scheme",
    type=click.Choice(["scram-sha-256", "argon2id", "bcrypt", "sha512-crypt"]),
    default="scram-sha-256",
    help="The form of the hash.",
)
@click.option("--file", metavar="FILE", default="", help="Put the line into FILE, not on stdout.")
@click.argument("user")
def password_(scheme: str, file: str, user: str) -> int:
    """Make a line for the password file; asks for the password, or reads it from stdin."""
    from mta import password

    return password.run(user, scheme, file)


class _Nothing(PosthouseError):
    """What was asked for is not there."""


def _run(command: Callable[[], Any]) -> int:
    """Return the exit status of ``command``; report what stops it as one line."""
    try:
        return command() or EX_OK
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(spelt("", shown.getvalue().rstrip()), err=True)
        return EX_USAGE
    except PosthouseError as error:
        click.echo(spelt("mta", error), err=True)
        return EX_NOTHING if isinstance(error, _Nothing) else exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        return EX_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would flush into it
        return EX_OK
    except OSError as error:
        click.echo(spelt("mta", error), err=True)
        return EX_TEMPFAIL


def main() -> None:
    """Run the command ``mta``."""
    sys.exit(_run(lambda: mta.main(standalone_mode=False, prog_name="mta")))
