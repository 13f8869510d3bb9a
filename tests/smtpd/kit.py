"""A worker in a thread of this process, its site in a temporary folder, and clients for it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mta.config.load import load_config
from mta.config.model import Config
from mta.machine import listen, loop
from mta.machine.log import Log
from mta.machine.smtp_service import Port
from mta.smtpd.counters import Counters
from mta.smtpd.policy import SUBMISSIONS
from mta.smtpd.worker import Worker
from mta.spool.intake import take_in
from mta.spool.spool import Spool
from mta.values import replace

YAML = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {{dir: log/, formats: [postfix, json]}}
local:
  domains: [example.test]
  users: [alice, bob, carol, postmaster]
  mailbox: maildir:mail/{{user}}/
  aliases: aliases
listen:
{listen}
relay_domains: [relay.test, .sub.test]
channels:
  - {{name: local, program: local, domains: $local}}
  - {{name: smtp, program: smtp, domains: "*"}}
{more}"""

LISTEN = '  - {address: "127.0.0.1:%d", service: mx}\n'


def write_site(folder: Path, listeners: str = LISTEN % 2525, more: str = "") -> Path:
    (folder / "aliases").write_text("everyone: alice, bob\nmixed: alice, nobody\n")
    path = folder / "mta.yaml"
    path.write_text(YAML.format(listen=listeners, more=more))
    return path


class House:
    """A worker that serves, and what came in through it."""

    def __init__(self, worker: Worker, folder: Path, ports: dict[str, int]) -> None:
        self.worker = worker
        self.folder = folder
        self.ports = ports  # by service
        self.loop: asyncio.AbstractEventLoop

    def call(self, act: Callable[[], Any]) -> Any:
        """Do ``act`` in the worker's loop."""

        async def run() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run ``work`` in the worker's loop to its end."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def sweep(self, later: float) -> None:
        """Have the worker look at all deadlines as if it were ``later`` seconds later."""
        self.call(lambda: self.worker.hall.sweep(time.monotonic() + later))

    def connect(self, service: str = "mx", source: str = "") -> Wire:
        where = ("127.0.0.1", self.ports[service])
        sock = socket.create_connection(where, 10, (source, 0) if source else None)
        return Wire(sock)

    def messages(self) -> list[bytes]:
        """Return the bodies that were accepted, in order."""
        return [body for _, body in self.jobs()]

    def jobs(self) -> list[tuple[Any, bytes]]:
        spool = Spool.open(str(self.folder / "spool"))
        take_in(spool)
        found = []
        for queue in sorted(spool.queues()):
            for names in spool.names(queue):
                for name in names:
                    claim = spool.claim(name)
                    assert claim is not None
                    with os.fdopen(claim.open_body(), "rb") as body:
                        found.append((claim.entry, body.read()))
                    claim.release()
        return sorted(found, key=lambda pair: str(pair[0].envelope.id))

    def log(self) -> str:
        self.call(self.worker.hall.log.flush)
        path = self.folder / "log" / "mail.log"
        return path.read_text() if path.exists() else ""


class Wire:
    """One client's socket, spoken to by lines."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(30)  # how long a busy machine may take; nobody waits so long
        self.sock = sock
        self.file = sock.makefile("rb")

    def reply(self) -> str:
        """Return the next reply, its lines joined by newlines; "" at the end."""
        lines = []
        while line := self.file.readline():
            lines.append(line.decode().rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def say(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def codes(self, *lines: str) -> list[str]:
        """Say each line; return the codes and statuses of the replies."""
        return [short(self.say(line)) for line in lines]

    def hello(self) -> None:
        assert self.reply()[:3] == "220"
        assert self.say("EHLO client.test")[:3] == "250"

    def mail(
        self, body: bytes = b"Subject: x\r\n\r\nhello\r\n", to: str = "bob@example.test"
    ) -> str:
        """Send one message; return the reply to its end."""
        self.codes("MAIL FROM:<a@client.test>", f"RCPT TO:<{to}>", "DATA")
        self.send(body + b".\r\n")
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def short(reply: str) -> str:
    """Return code and enhanced status of a reply's last line."""
    last = reply.rsplit("\n", maxsplit=1)[-1]
    code, _, rest = last.partition(" ")
    word = rest.partition(" ")[0]
    return f"{code} {word}" if word.count(".") == 2 and word[0].isdigit() else code


@contextmanager
def serving(
    folder: Path,
    services: tuple[str, ...] = ("mx",),
    *,
    more: str = "",
    limits: dict[str, Any] | None = None,
    proxy: bool = False,
    slots: int = 2,
    memory: int | None = None,
    slot: int = 0,
    before: Callable[[Worker], None] | None = None,
) -> Iterator[House]:
    """Serve ``services`` on loopback until the end of the block."""
    config: Config = load_config(str(write_site(folder, more=more)))
    if limits:
        config = replace(config, limits=replace(config.limits, **limits))
    if memory is None:
        memory = Counters.create(slots)
    log = Log(config.log.dir, config.log.formats, "smtpd")
    sockets, ports = [], {}
    for service in services:
        (sock,) = listen.listen("127.0.0.1:0")
        ports[service] = sock.getsockname()[1]
        sockets.append((sock, Port(service, proxy, service == SUBMISSIONS)))
    ready = threading.Event()
    failed: list[BaseException] = []
    house: list[House] = []

    async def main() -> None:
        worker = Worker(config, Counters(memory, slots, slot), log)
        if before is not None:
            before(worker)
        await worker.read_secrets()
        await worker.open(sockets)
        house.append(House(worker, folder, ports))
        house[0].loop = asyncio.get_running_loop()
        ready.set()
        await worker.run()

    def work() -> None:
        try:
            loop.run(main())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(20)
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield house[0]
    finally:
        if thread.is_alive():
            house[0].loop.call_soon_threadsafe(house[0].worker.stop, 0.2)
        thread.join(20)
        assert not failed, failed
