"""The lmtp channel against LMTP servers as Dovecot has them, by TCP and by a socket on disk."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable

import pytest
from mta.channels.lmtp import main

from mta.channel.records import EACH, Answer, Told
from mta.channel.talk import DeliverEnd
from mta.machine.hops import Relay
from mta.machine.net import Endpoint
from mta.smtp.extensions import Transaction
from mta.types import MESSAGE, RECIPIENT, Job, Mailbox, Recipient
from tests.channels.post import A, B, Post, listen, run
from tests.fakes import BODY, Sink

FATES = {
    "full": b"452 4.2.2 <full@boxes.test> Mailbox is full",
    "over": b"552 5.2.2 <over@boxes.test> Quota exceeded",
    "slow": b"451 4.2.0 <slow@boxes.test> Internal error",
}
BOXES = tuple(Mailbox(name, "boxes.test") for name in ("kept", "full", "nobody", "over", "also"))


class Boxes(Sink):
    """Answers each accepted recipient after the dot, by its name."""

    def __init__(self, made: list[Sink]) -> None:
        keywords = (b"8BITMIME", b"CHUNKING", b"ENHANCEDSTATUSCODES", b"PIPELINING")
        super().__init__(made, keywords)
        self.accepted: list[str] = []
        self.lost_after = -1  # of the replies after the dot, this many come

    def command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.reply(b"500 5.5.1 Unknown command")
        elif verb == b"LHLO":
            super().command(b"EHLO" + line[4:])
        elif verb == b"RCPT":
            name = line.partition(b"<")[2].partition(b"@")[0].decode()
            if name == "nobody":
                self.reply(b"550 5.1.1 <nobody@boxes.test> User doesn't exist")
            else:
                self.accepted.append(name)
                self.reply(b"250 2.1.5 OK")
        elif verb == b"BDAT":
            self.reply(b"502 5.5.1 not here")
        else:
            super().command(line)

    def reply(self, octets: bytes) -> None:
        if not octets.startswith(b"250 2.0.0 kept"):
            super().reply(octets)
            return
        names, self.accepted = self.accepted, []
        for at, name in enumerate(names):
            if at == self.lost_after:
                self.close()
                return
            super().reply(FATES.get(name, b"250 2.0.0 <%s@boxes.test> Saved" % name.encode()))


def relay(port: int) -> tuple[Relay, ...]:
    return (Relay(Endpoint("127.0.0.1", port)),)


def fates(post: Post) -> list[tuple[int, str]]:
    return [(outcome.reply.code, outcome.reply.status) for outcome in post.outcomes]


MIXED = [(250, "2.0.0"), (452, "4.2.2"), (550, "5.1.1"), (552, "5.2.2"), (250, "2.0.0")]


def test_each_recipient_has_its_own_fate() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Boxes(made))
        post = Post(24, relays=relay(port), lmtp=True)
        await post.send(2, transaction=Transaction(A, BOXES))
        assert fates(post) == MIXED * 2
        assert {outcome.scope for outcome in post.outcomes} == {RECIPIENT}
        await post.courier.close()
        (sink,) = made  # one connection, greeted with LHLO, ended with QUIT
        assert sink.commands[0][:5] == b"LHLO "
        assert sink.commands[-1] == b"QUIT"
        assert len(sink.messages) == 2

    run(talk())


def test_who_was_answered_before_the_connection_was_lost_is_settled() -> None:
    made: list[Sink] = []

    def half() -> Boxes:
        boxes = Boxes(made)
        boxes.lost_after = 2
        return boxes

    async def talk() -> None:
        _, port = await listen(half)
        post = Post(24, relays=relay(port), lmtp=True)
        await post.send(transaction=Transaction(A, BOXES))
        assert fates(post)[:3] == MIXED[:3]
        assert {status for _, status in fates(post)[3:]} == {"4.4.2"}
        assert all(outcome.scope == MESSAGE for outcome in post.outcomes[3:])

    run(talk())


def test_a_socket_in_the_file_system() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "lmtp")
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Boxes(made), path)
        post = Post(24, relays=(Relay(Endpoint(f"unix:{path}", 0)),), lmtp=True, tls="verify")
        await post.send(3, transaction=Transaction(A, BOXES[:1]))
        assert fates(post) == MIXED[:1] * 3
        assert post.relays == [f"localhost[{path}]"] * 3
        assert len(made) == 1
        server.close()
        os.unlink(path)
        for sink in made:
            sink.close()
        await asyncio.sleep(0.01)
        await post.send()
        assert fates(post)[3:] == [(421, "4.4.1")]
        os.rmdir(folder)

    run(talk())


def test_the_host_of_a_job_changes_nothing() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Boxes(made))
        post = Post(24, relays=relay(port), lmtp=True)
        for host in ("a.test", "b.test", "", "boxes.test"):
            await post.send(host=host)
        assert fates(post) == [(250, "2.0.0")] * 4
        assert len(made) == 1

    run(talk())


def start(*options: tuple[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket, DeliverEnd]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "mta.channels.lmtp"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    theirs.close()
    ours.setblocking(False)
    return process, ours, DeliverEnd("lmtp", "q", "mx.example.test", options, jobs=10)


def test_a_person_who_starts_it_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mta.channels.lmtp"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr.startswith("lmtp: ")
    assert done.stderr.count("\n") == 1
    assert callable(main)


@pytest.mark.e2e
def test_the_program_itself_settles_each() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        _, port = await listen(lambda: Boxes(made))
        process, ours, end = start(("relay", f"127.0.0.1:{port}"))
        await loop.sock_sendall(ours, end.opening())
        people = tuple(Recipient(3 * at, box) for at, box in enumerate(BOXES))
        job = Job(0, "q", "lmtp", "boxes.test", "", B, people)
        told: list[Told] = []
        sent = False
        with tempfile.TemporaryFile() as body:
            body.write(BODY)
            body.flush()
            while not sent or end.in_flight:
                if end.free and not sent:
                    _, lines = end.send_job(job, "ID", len(BODY), 1.0, people)
                    socket.send_fds(ours, [lines], [body.fileno()])
                    sent = True
                events = end.receive(await loop.sock_recv(ours, 65536))
                told += [event for event in events if isinstance(event, Told)]
                assert all(e.settles == EACH for e in events if isinstance(e, Answer))
        by_index = {index: event.outcome.reply for event in told for index in event.indexes}
        codes = [by_index[3 * at].code for at in range(5)]
        assert codes == [code for code, _ in MIXED]
        ours.send(end.quit())
        status: Awaitable[int] = asyncio.to_thread(process.wait, 10)
        assert await status == 0
        assert made[0].commands[-1] == b"QUIT"
        ours.close()
        process.communicate()

    asyncio.run(asyncio.wait_for(talk(), 20))


@pytest.mark.e2e
def test_without_a_relay_it_says_so_and_ends() -> None:
    process, ours, end = start()
    ours.setblocking(True)
    ours.sendall(end.opening())
    _, errors = process.communicate(timeout=20)
    ours.close()
    assert process.returncode == 78
    assert errors.decode() == "lmtp: option relay: lmtp needs one, as unix:/path or host:24\n"
