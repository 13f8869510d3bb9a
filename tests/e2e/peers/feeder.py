"""A client that hands much mail to an SMTP server, as fast as it can or at a steady rate.

    report = feed(port, plan)          in a process of its own, to its end
    feeder = Feeder(port, plan)        the same, beside everything else; feeder.report()

A plan is a mapping: ``messages``, a list of lists of recipients, or ``count`` messages, each
to one recipient of ``domains`` in turn; ``connections`` that are kept; ``rate`` a second (0: as
fast as may be); ``size`` of a body; ``sender``; ``fields`` for the header; ``mark``, by which they
are told apart when they arrive.  Their field Sent says when each was due to be sent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["Feeder", "feed"]


class Plan:
    """What is left to send."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.sender = plan.get("sender", "s@example.test")
        self.rate = float(plan.get("rate", 0))
        domains = plan.get("domains", [])
        self.messages: list[list[str]] = plan.get("messages") or [
            [f"r{number}@{domains[number % len(domains)]}"] for number in range(plan["count"])
        ]
        fields = "".join(f"{field}\r\n" for field in plan.get("fields", []))
        size = int(plan.get("size", 1000))
        self._head = f"Mark: {plan.get('mark', '-')}\r\nSubject: test\r\n{fields}".encode()
        line = b"x" * 70 + b"\r\n"
        self._body = b"\r\n" + line * max(1, size // len(line)) + b".\r\n"
        self._next = 0
        self.began = 0.0
        self.accepted = 0
        self.recipients = 0  # of what was accepted
        self.refused: list[str] = []

    def take(self) -> tuple[list[str], float] | None:
        """Return the next message's recipients and when it is due."""
        if self._next >= len(self.messages):
            return None
        number, self._next = self._next, self._next + 1
        due = self.began + number / self.rate if self.rate else 0.0
        return self.messages[number], due

    def text(self, due: float) -> bytes:
        """Return the message that is due at ``due``."""
        return b"Sent: %.6f\r\n" % (due or time.monotonic()) + self._head + self._body


async def reply(reader: asyncio.StreamReader) -> bytes:
    """Return the last line of a reply."""
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] != b"-":
            return line


async def connection(port: int, plan: Plan) -> None:
    """Send until nothing is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reply(reader)
    writer.write(b"EHLO feeder.test\r\n")
    await reply(reader)
    while (job := plan.take()) is not None:
        recipients, due = job
        if due > time.monotonic():
            await asyncio.sleep(due - time.monotonic())
        commands = [f"MAIL FROM:<{plan.sender}>"]
        commands += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        writer.write(("\r\n".join([*commands, "DATA"]) + "\r\n").encode())
        replies = [await reply(reader) for _ in range(len(recipients) + 2)]
        if replies[-1][:1] == b"3":
            writer.write(plan.text(due))
            replies.append(await reply(reader))
        if replies[-1][:1] == b"2":
            plan.accepted += 1
            plan.recipients += sum(line[:1] == b"2" for line in replies[1:-2])
        plan.refused += [line.decode().strip() for line in replies if line[:1] not in b"23"]
    writer.write(b"QUIT\r\n")
    await reply(reader)
    writer.close()


async def work(port: int, plan: Plan, connections: int) -> dict[str, Any]:
    """Send all of it; return the report."""
    plan.began = time.monotonic()
    await asyncio.gather(*(connection(port, plan) for _ in range(connections)))
    return {
        "accepted": plan.accepted,
        "recipients": plan.recipients,
        "began": plan.began,
        "ended": time.monotonic(),
        "refused": plan.refused[:20],
    }


class Feeder:
    """A plan under way in a process of its own."""

    def __init__(self, port: int, plan: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plan))
        self._process.stdin.close()

    def report(self) -> dict[str, Any]:
        """Wait for its end; return what was accepted and refused, and when it began and ended."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        self._process.stdout.close()
        if self._process.wait():
            raise AssertionError(f"the feeder ended with {self._process.returncode}")
        return dict(json.loads(text))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def feed(port: int, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a plan; return its report."""
    return Feeder(port, plan).report()


def main() -> None:
    """Run as the child of a Feeder."""
    plan = json.load(sys.stdin)
    report = asyncio.run(work(int(sys.argv[1]), Plan(plan), int(plan.get("connections", 4))))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
