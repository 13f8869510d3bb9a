"""The code of a channel program, run in this process: its options in, outcomes out."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from mta.channels import local as local_channel

from mta.channel.records import Dispatch, Opening
from mta.machine.run import Ran, Running
from mta.machine.serve import Service
from mta.types import Mailbox, Outcome, Recipient, ReversePath
from mta.values import replace
from tests.channels.driver import WRITER, body_file, recipients


def wait(running: Running) -> Ran:
    while True:
        left = max(0.0, running.deadline - time.monotonic())
        select.select(running.descriptors, [], [], left)
        ran = running.step(time.monotonic())
        if ran is not None:
            return ran


def drive(steps: Generator[Running, Ran, None]) -> None:
    try:
        running = next(steps)
        while True:
            running = steps.send(wait(running))
    except StopIteration:
        return


class Harness:
    """A channel's code behind the options given by name; a tuple is a repeated option."""

    def __init__(
        self,
        open_program: Callable[[Opening], Service] = local_channel.open_program,
        **options: str | Sequence[str],
    ) -> None:
        pairs = [
            (name, value)
            for name, values in options.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        self.service = open_program(Opening("channel", "queue", "mx.example.test", tuple(pairs)))

    def deliver(
        self,
        body: bytes,
        *people: Mailbox | Recipient,
        path: ReversePath = WRITER,
        **asked: object,
    ) -> dict[int, Outcome]:
        told: dict[int, Outcome] = {}
        dispatch = Dispatch(
            1, "1ab", path, len(body), 1.5, "h.test", "", False, False, recipients(*people)
        )

        dispatch = replace(dispatch, **asked)

        def tell(index: int | None, outcome: Outcome, relay: str = "") -> None:
            assert index is not None
            assert index not in told
            told[index] = outcome

        with os.fdopen(body_file(body), "rb") as file:
            drive(self.service.deliver(dispatch, file, tell))
        return told

    def one(
        self,
        body: bytes,
        person: Mailbox | Recipient,
        path: ReversePath = WRITER,
        **asked: object,
    ) -> Outcome:
        (outcome,) = self.deliver(body, person, path=path, **asked).values()
        return outcome


def submit_script(directory: Path, said: str = "Submitted & queued (1ab)", status: int = 0) -> Path:
    """Write a stand-in for submit, which notes its arguments and its input."""
    path = directory / "submit.sh"
    path.write_text(
        f'for word; do printf "%s\\n" "$word"; done > {directory}/arguments\n'
        f"cat > {directory}/input\nprintf '{said}\\n'\nexit {status}\n"
    )
    return path


def submitted(directory: Path) -> tuple[list[str], bytes]:
    """Return the arguments and the input that the stand-in noted last."""
    arguments = (directory / "arguments").read_text().split("\n")[:-1]
    return arguments, (directory / "input").read_bytes()
