"""A house of real processes for the end-to-end tests: configuration, daemons, sinks, waiting.

Nothing sleeps for a guessed time: ``wait`` polls a condition until its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mta.deliver.questions import read_answer
from mta.deliver.rules import SWEEPING
from mta.machine.asking import ask
from mta.spool.layout import ID_SIGNS, SIGNS

BIN = Path(sys.executable).parent
TREE = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("POSTHOUSE_TOOLS", TREE / "build" / "tools"))

YAML = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {{dir: log/, formats: [postfix, json]}}
local:
  domains: [example.test]
  users: [alice, bob]
  mailbox: {mailbox}
limits: {{recipients: 20000}}
channels:
{channels}
daemons:
{daemons}
"""
LOCAL = "{name: local, program: local, domains: $local}"
BEGINS = 0.3  # seconds that a process takes to begin where nobody has to wait
NO_JOB = f"1970010100/{SIGNS[0] * ID_SIGNS}.0.nowhere"  # what a deliver may be asked about


def wait(condition: Callable[[], Any], within: float = 60.0, step: float = 0.05) -> Any:
    """Return the first true value of ``condition``; AssertionError after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {condition}")
        time.sleep(step)


def slowness() -> float:
    """Return how many times longer than elsewhere a process takes to begin here and now: 1 to 4."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([str(BIN / "deliver"), "-h"], capture_output=True, check=False)
        took.append(time.monotonic() - began)
    return min(4.0, max(1.0, sorted(took)[1] / BEGINS))


def tool(path: str) -> str | None:
    """Return a program that is installed, or was unpacked into build/tools; None if neither."""
    unpacked = TOOLS / path
    found = shutil.which(Path(path).name)
    return found or (str(unpacked) if unpacked.exists() else None)


def tool_environment() -> dict[str, str]:
    """Return the environment in which unpacked programs find their libraries."""
    libraries = [TOOLS / "usr/lib/postfix", *TOOLS.glob("usr/lib/*-linux-gnu*")]
    perl = [str(p) for p in (TOOLS / "usr/share/perl5", *TOOLS.glob("usr/lib/*/perl5/5.*"))]
    return {
        **os.environ,
        "PERL5LIB": ":".join(perl),
        "LD_LIBRARY_PATH": ":".join(str(path) for path in libraries),
    }


class House:
    """One configuration below ``root``, and the processes that use it."""

    def __init__(
        self,
        root: Path,
        channels: Sequence[str] = (LOCAL,),
        daemons: Sequence[str] = ("deliver -b -clocal",),
        mailbox: str = "maildir:mail/{user}/",
        more: str = "",
    ) -> None:
        self.root = root
        self.config = root / "mta.yaml"
        rows = ["\n".join(f"  - {row}" for row in part) for part in (channels, daemons)]
        text = YAML.format(mailbox=mailbox, channels=rows[0], daemons=rows[1])
        self.config.write_text(text + more)
        (root / "mail").mkdir()
        # SPT_NOENV: titles are not written over the environment, by which we know our processes
        self.environment = {**os.environ, "MTA_CONFIG": str(self.config), "SPT_NOENV": "1"}
        self.running: list[subprocess.Popen[bytes]] = []

    def command(self, name: str, *arguments: str) -> list[str]:
        return [str(BIN / name), *arguments]

    def run(self, name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command of ours to its end, with its output kept as text unless told otherwise."""
        settings = {"text": True, "timeout": 110, **options}
        return subprocess.run(
            self.command(name, *arguments),
            env=self.environment,
            capture_output=True,
            check=False,
            **settings,
        )

    def start(self, name: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command of ours; it is ended with the house."""
        with open(self.root / "output", "ab") as output:
            settings = {"stdout": output, "stderr": output, **options}
            process = subprocess.Popen(
                self.command(name, *arguments), env=self.environment, **settings
            )
        self.running.append(process)
        return process

    def output(self) -> str:
        return (self.root / "output").read_text(errors="replace")

    def submit(self, message: bytes, *arguments: str) -> str:
        """Submit one message; return its id.  AssertionError if any recipient is refused."""
        ran = self.run("submit", "-v", *arguments, input=message, text=False)
        assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr)
        return ran.stdout.decode().partition("(")[2].partition(")")[0]

    def submit_many(self, mail: Iterator[tuple[str, Sequence[str], bytes]]) -> list[str]:
        """Submit (reverse-path, recipients, text with LF) over one ``submit --protocol``."""
        script = bytearray()
        for path, recipients, text in mail:
            script += f"from <{path}>\n".encode()
            script += b"".join(f"to {recipient}\n".encode() for recipient in recipients)
            script += b"data\n" + text + b".\n"
        ran = self.run("submit", "--protocol", input=bytes(script) + b"quit\n", text=False)
        replies = ran.stdout.decode().split("\n")
        bad = [reply for reply in replies if reply and reply[0] != "2"]
        assert ran.returncode == 0 and not bad, (ran.returncode, bad[:5], ran.stderr)
        said = [reply.partition("queued (")[2] for reply in replies if "queued (" in reply]
        return [ident.partition(")")[0] for ident in said]

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Return the events of the log so far, those called ``name``."""
        try:
            lines = (self.root / "log" / "events.jsonl").read_text().split("\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if not name or event["event"] == name:
                    found.append(event)
        return found

    def attempts(self, ident: str, state: str) -> list[dict[str, Any]]:
        """Return the attempts at a message that the log has, with what became of it."""
        tried = self.events("attempt")
        return [event for event in tried if event["id"] == ident and event["state"] == state]

    def jobs(self) -> list[Path]:
        """Return the files of the jobs that wait."""
        return [path for path in (self.root / "spool").glob("q.*/*/*") if path.is_file()]

    def gone(self, idents: Sequence[str]) -> bool:
        """Whether the log says of each message that its last job is finished."""
        return set(idents) <= {event["id"] for event in self.events("removed")}

    def sweeps(self, queue: str) -> list[float]:
        """Return for each deliver of ``queue`` that is not sweeping in how many seconds it will.

        One that has not begun its first sweep is left out, too: it would take what is sent
        meanwhile for mail that has waited.
        """
        found = []
        for _, octets in ask(f"{self.root}/run", {queue: [NO_JOB]}, 5.0).came:
            answer = read_answer(octets)
            assert answer is not None and answer.jobs, octets
            lanes = [lane for _, each in answer.jobs for lane in each]
            if answer.sweeps_at > answer.now and all(lane.where != SWEEPING for lane in lanes):
                found.append(answer.sweeps_at - answer.now)
        return found

    def await_sweeps(self, *queues: str) -> None:
        """Wait until a deliver of each of ``queues`` has swept it; name a queue twice for two."""
        for queue, delivers in Counter(queues).items():
            wait(lambda q=queue, n=delivers: len(self.sweeps(q)) >= n, step=0.1)

    def await_reload(self, queue: str, before: list[float]) -> None:
        """Wait until the deliver of ``queue`` has swept it by a new configuration.

        ``before`` is what sweeps() told before it was told to: that time only falls.
        """
        assert before
        wait(lambda: self.sweeps(queue) > before, step=0.1)

    def maildir(self, user: str = "alice") -> list[Path]:
        return sorted((self.root / "mail" / user / "new").glob("*"))

    def processes(self) -> list[int]:
        """Return the processes that run with this configuration, by their environment."""
        mark, found = f"MTA_CONFIG={self.config}".encode(), []
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                        found.append(int(entry))
        return found

    def stop(self) -> None:
        """End everything, and see that nothing is left."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running = []
        try:
            wait(lambda: not self.processes())
        finally:
            for pid in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


class Sink:
    """An SMTP server that keeps what it gets: (reverse-path, recipients, octets as sent).

    ``behaviour`` "accept" takes all mail; "hang up" counts connections and closes them;
    "defer" has no room for any recipient just now.
    """

    def __init__(self, behaviour: str = "accept", delay: float = 0.0) -> None:
        self.messages: list[tuple[str, tuple[str, ...], bytes]] = []
        self.connections = 0
        self.behaviour = behaviour
        self._delay = delay
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            await asyncio.start_server(self._talk, sock=self._socket, limit=1 << 20)

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self.behaviour != "hang up":
                    await self._session(reader, writer)
        finally:
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")

        say("220 sink.example ESMTP")
        path, recipients = "", []
        while line := await reader.readuntil(b"\r\n"):
            verb = line[:4].upper()
            if verb == b"EHLO":
                say("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000")
            elif verb == b"MAIL":
                path, recipients = _between(line), []
                say("250 2.1.0 ok")
            elif verb == b"RCPT" and self.behaviour == "defer":
                say("451 4.2.2 later")
            elif verb == b"RCPT":
                recipients.append(_between(line))
                say("250 2.1.5 ok")
            elif verb == b"DATA" and not recipients:
                say("554 5.5.1 to whom?")
            elif verb == b"DATA":
                say("354 go on")
                octets = await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(self._delay)
                text = (b"\r\n" + octets[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
                self.messages.append((path, tuple(recipients), text))
                say(f"250 2.0.0 kept as {len(self.messages)}")
            elif verb == b"QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("250 2.0.0 ok")

    def close(self) -> None:
        def stop() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.1, self._loop.stop)  # connections are closed until then

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5)
        self._socket.close()


def _between(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "surrogateescape")


_given: set[int] = set()  # ports that this process was told of


def refused_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, never the same twice.

    It is below those that the system gives to clients, one of whom might take it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given:
                _given.add(port)
                return port


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Tell whether somebody listens on a port of ``address``."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
