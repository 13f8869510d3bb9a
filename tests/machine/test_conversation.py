from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Generator

import pytest

from mta.channel.records import ALL, Done, TlsFact, Told
from mta.channel.talk import DeliverEnd
from mta.errors import RemoteProtocolError
from mta.machine.conversation import AsyncConversation
from mta.types import Outcome, Reply
from mta.values import replace
from tests.channels.driver import ALICE, body_file, job, recipients

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Generator[Pair, None, None]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def said(text: str) -> Outcome:
    return Outcome(Reply(250, "2.0.0", text))


async def talk(
    pair: Pair, bodies: list[str], end: Callable[[DeliverEnd, socket.socket], None]
) -> tuple[list[object], list[str]]:
    """Let a program echo ``bodies``, all in flight at once; return what deliver heard."""
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    deliver = DeliverEnd("c", "q", "mx.test", (), 50)
    await loop.sock_sendall(ours, deliver.opening())
    conversation = await AsyncConversation.open(theirs)
    assert conversation.opening.hostname == "mx.test"
    conversation.answer(ALL, 99)
    deliver.receive(await loop.sock_recv(ours, 65536))
    assert deliver.free == 50  # no more than were offered
    for body in bodies:
        people = recipients(ALICE)
        lines = deliver.send_job(job(people), "1ab", len(body), 1.5, people)[1]
        fd = body_file(body.encode())
        socket.send_fds(ours, [lines], [fd])
        os.close(fd)
    end(deliver, ours)
    seen = []
    async for dispatch, body in conversation:
        with body:
            seen.append(body.read().decode())
        if seen[-1] == "?":
            conversation.fail(dispatch.tag, ValueError("it broke"))
            continue
        assert conversation.untold(dispatch.tag) == (0,)
        conversation.tell(dispatch.tag, None, said(seen[-1]), "relay")
        conversation.done(dispatch.tag)
    closing = asyncio.create_task(conversation.close())
    events: list[object] = []
    while data := await loop.sock_recv(ours, 65536):
        events += deliver.receive(data)
    await closing
    return events, seen


def quits(deliver: DeliverEnd, ours: socket.socket) -> None:
    ours.sendall(deliver.quit())


def hangs_up(deliver: DeliverEnd, ours: socket.socket) -> None:
    ours.shutdown(socket.SHUT_WR)


def terminates(deliver: DeliverEnd, ours: socket.socket) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def passed_on(pair: Pair) -> bytes:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    deliver = DeliverEnd("c", "q", "mx.test", (), 2)
    await loop.sock_sendall(ours, deliver.opening())
    conversation = await AsyncConversation.open(theirs)
    conversation.answer(ALL, 1)
    deliver.receive(await loop.sock_recv(ours, 65536))
    people = [replace(recipients(ALICE)[0], notify="SUCCESS", orcpt="rfc822;a@x")]
    lines = deliver.send_job(job(people), "1ab", 1, 1.5, people, envid="E")[1]
    fd = body_file(b"x")
    socket.send_fds(ours, [lines, deliver.quit()], [fd])
    os.close(fd)
    async for dispatch, body in conversation:
        body.close()
        assert (dispatch.envid, dispatch.recipients[0].orcpt) == ("E", "rfc822;a@x")
        conversation.tls(TlsFact("x.test", "mx", "may", "", "TLSv1.3", "AES"))
        conversation.tell(dispatch.tag, None, said("ok"), "relay", dsn_passed=True)
        conversation.done(dispatch.tag)
    closing = asyncio.create_task(conversation.close())
    octets = b""
    while data := await loop.sock_recv(ours, 65536):
        octets += data
    await closing
    return octets


def test_what_the_server_reports_itself_is_said_before_the_outcome(pair: Pair) -> None:
    lines = asyncio.run(passed_on(pair)).split(b"\n")
    assert [line.split(b" ")[0] for line in lines] == [b"tls", b"passed", b"outcome", b"done", b""]


@pytest.mark.parametrize("end", [quits, hangs_up, terminates])
def test_c5_it_ends_after_the_last_job_that_had_come(
    pair: Pair, end: Callable[[DeliverEnd, socket.socket], None]
) -> None:
    events, seen = asyncio.run(talk(pair, ["one", "two", "three"], end))
    assert seen == ["one", "two", "three"]
    assert [type(event) for event in events] == [Told, Done] * 3
    assert [e.outcome.reply.text for e in events if isinstance(e, Told)] == seen
    assert {e.relay for e in events if isinstance(e, Told)} == {"relay"}


def test_c4_much_is_told_in_order_though_the_socket_is_full(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    bodies = ["x" * 400 + str(n) for n in range(50)]
    events, seen = asyncio.run(talk(pair, bodies, quits))
    assert seen == bodies
    assert [e.outcome.reply.text for e in events if isinstance(e, Told)] == bodies


def test_a_job_that_breaks_is_deferred(pair: Pair) -> None:
    events, _ = asyncio.run(talk(pair, ["?", "fine"], quits))
    told = [event.outcome.reply for event in events if isinstance(event, Told)]
    assert [(reply.code, reply.text) for reply in told] == [
        (451, "ValueError: it broke"),
        (250, "fine"),
    ]


def test_babble_from_deliver_is_an_error(pair: Pair) -> None:
    async def babble() -> None:
        ours, theirs = pair
        ours.sendall(DeliverEnd("c", "q", "mx.test").opening())
        conversation = await AsyncConversation.open(theirs)
        conversation.answer(ALL, 1)
        ours.sendall(b"sing\n")
        async for _ in conversation:
            pytest.fail("a job out of babble")

    with pytest.raises(RemoteProtocolError, match="sing"):
        asyncio.run(babble())


def test_an_end_before_the_options_is_an_error(pair: Pair) -> None:
    async def end() -> None:
        pair[0].sendall(b"hello 1 c q h\n")
        pair[0].shutdown(socket.SHUT_WR)
        await AsyncConversation.open(pair[1])

    with pytest.raises(RemoteProtocolError, match="ended before"):
        asyncio.run(end())
