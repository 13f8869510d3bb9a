"""smtpd: the program.  The master, or with SMTPD_WORKER in the environment one of its workers.

Exit     0 after SIGTERM; 64 for a wrong command line, 75 when the spool cannot be
         used, 78 when the configuration is wrong or an address cannot be bound.
"""

from __future__ import annotations

import asyncio
import json
import marshal
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from mta import __version__
from mta.arguments import FLAG, VALUE, read_options
from mta.config.load import load_config
from mta.config.model import Config, rebuild
from mta.errors import EX_TEMPFAIL, ConfigError, PosthouseError, UsageError, exit_code, spelt
from mta.machine import listen, loop
from mta.machine.log import Log
from mta.machine.logline import DEFAULT_LEVEL, LEVELS
from mta.machine.process import die_with_parent
from mta.machine.run import account, become
from mta.machine.smtp_service import Port
from mta.smtpd.counters import Counters
from mta.smtpd.master import ENVIRONMENT, Master
from mta.smtpd.policy import SUBMISSIONS
from mta.smtpd.worker import Worker

__all__ = ["HELP", "main"]

HELP = """\
usage: smtpd [-V level] [--workers n] [--config file]

Listens where mta.yaml says, and takes mail into the queues.

  -V level        how much the text log says: FAT TMP GEN BST FST PTR BTR FTR
  --workers n     processes that serve; 0 is one for each CPU, up to 4
  --config file   the configuration (default: $MTA_CONFIG, the user's, /etc's)
  --help, --version
"""
_SHORT = {"V": VALUE, "h": FLAG}
_LONG = {"config": VALUE, "workers": VALUE, "help": FLAG, "version": FLAG}
DRAIN = 300.0  # seconds that the clients of an old configuration have to end


def _run(arguments: Sequence[str]) -> int:
    options, operands = read_options(arguments, _SHORT, _LONG)
    if operands:
        raise UsageError("smtpd takes no arguments; try --help")
    given = dict(options)
    if "help" in given or "h" in given:
        sys.stdout.write(HELP)
        return 0
    if "version" in given:
        sys.stdout.write(f"smtpd (Posthouse) {__version__}\n")
        return 0
    level = given.get("V", "").upper()
    if level and level not in LEVELS:
        raise UsageError(f"-V: there are {' '.join(LEVELS)}")
    workers = _workers(given.get("workers"))
    config = load_config(given.get("config"))
    log = _log(config, level)
    listen.raise_descriptors()
    master = Master(config, log, workers=workers, level=level)
    log.started("smtpd", arguments)
    try:
        return master.run()
    finally:
        log.stopped("smtpd")
        log.flush()


def _log(config: Config, level: str) -> Log:
    chosen = LEVELS.index(level) if level else DEFAULT_LEVEL
    return Log(config.log.dir, config.log.formats, "smtpd", level=chosen)


def _workers(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise UsageError("--workers needs a number")
    return int(text)


def _serve(spec: dict[str, Any]) -> int:
    """Be a worker, as the master's ``spec`` says."""
    die_with_parent(spec["parent"])
    config = _configuration(spec)
    counters = Counters(spec["memory"], spec["slots"], spec["slot"])
    log = _log(config, spec["level"])
    try:
        loop.run(_work(config, counters, log, spec))
    except PosthouseError as error:
        log.warning(str(error))
        raise
    finally:
        log.flush()
    return 0


def _configuration(spec: dict[str, Any]) -> Config:
    """Return the configuration of now, or the master's where that has errors."""
    with open(spec["copy"], "rb") as file:
        file.seek(0)
        copy = rebuild(marshal.load(file))
    try:
        return load_config(spec["config"])
    except ConfigError:
        return copy


async def _work(config: Config, counters: Counters, log: Log, spec: dict[str, Any]) -> None:
    worker = Worker(config, counters, log, f"smtpd[{spec['number']}]")
    await worker.read_secrets()
    _drop(config.smtpd.user)
    die_with_parent(spec["parent"])  # the kernel forgets it when a process becomes another user
    sockets = [
        (listen.adopt(fd), Port(service, proxy, service == SUBMISSIONS))
        for fd, service, proxy in spec["sockets"]
    ]
    await worker.open(sockets)
    running = asyncio.get_running_loop()
    running.add_signal_handler(signal.SIGTERM, worker.stop)
    running.add_signal_handler(signal.SIGINT, worker.stop)
    running.add_signal_handler(signal.SIGHUP, worker.stop, DRAIN)
    loop.spare_collector()
    os.write(spec["ready"], b"ready")
    os.close(spec["ready"])
    await worker.run()


def _drop(user: str) -> None:
    """Become ``user`` for ever; nothing where we are not root."""
    if not user or os.geteuid() != 0:
        return
    who = account(user)
    if who is None:
        raise ConfigError(f"smtpd.user: there is no account {user}")
    become(who)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run smtpd; return its exit status."""
    try:
        spec = os.environ.pop(ENVIRONMENT, "")
        if spec:
            return _serve(json.loads(spec))
        return _run(sys.argv[1:] if arguments is None else arguments)
    except PosthouseError as error:
        print(spelt("smtpd", error), file=sys.stderr)
        return exit_code(error)
    except OSError as error:
        print(spelt("smtpd", error), file=sys.stderr)
        return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
