"""The smtp channel against servers on the loopback that are kind, slow, rude and absent."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable
from typing import Any

import pytest
from mta.channels.smtp import main

from mta.channel.records import Dispatch, Told
from mta.channel.talk import DeliverEnd
from mta.machine import courier, site
from mta.machine.answers import Exchangers, Hop
from mta.machine.resolve import Addresses, Resolver
from mta.machine.site import Delivery, Site
from mta.machine.smtp_session import BLOCK, Connection, Parcel
from mta.smtp.data import unstuff
from mta.smtp.extensions import Transaction
from mta.smtp.states import BODY, LIMITS
from mta.types import HOST, NULL_PATH, Job, Outcome, Recipient, Reply
from tests.channels.post import A, B, Post, free_port, listen, run
from tests.fakes import BODY as DEFAULT_BODY
from tests.fakes import HOSTNAME, Dialogue, ScriptedServer, Sink, dialogues


class Names(Resolver):
    """Answers without a network."""

    def __init__(self, **names: Addresses) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._names = names

    async def addresses(self, host: str, now: float) -> Addresses:
        self.asked.append(host)
        return self._names[host.partition(".")[0]]

    async def exchangers(self, domain: str, now: float) -> Exchangers:
        return Exchangers((Hop(domain, 0),), implicit=True)


# Whoever was one too many goes in a transaction of his own at once: see test_smtp_hops.py.
ENDED = [d for d in dialogues("client") if not any(o.status == "4.5.3" for o in d.outcomes)]


@pytest.mark.parametrize("dialogue", ENDED, ids=lambda d: d.name)
def test_dialogue_on_a_socket(dialogue: Dialogue) -> None:
    silent = any(step.octets == b"silence" for step in dialogue.steps if step.kind == "end")

    async def talk() -> None:
        server = ScriptedServer(dialogue)
        await server.start()
        post = Post(server.port, scale=0.0005 if silent else 1.0)
        for transaction, body in dialogue.messages:
            post.offer(body, transaction=transaction)
        await post.wait()
        await post.courier.close()
        await server.stop()
        assert server.mistakes == []
        assert server.accepted == 1
        for expected, outcome in zip(dialogue.outcomes, post.outcomes, strict=True):
            assert expected.fits(outcome), f"{outcome} is not {expected}"

    run(talk())


def test_p1_a_host_that_refuses_us_costs_one_connection() -> None:
    made: list[Sink] = []

    class Refusing(Sink):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._made.append(self)
            transport.write(b"554 5.3.2 no\r\n")

    async def talk() -> None:
        _, port = await listen(lambda: Refusing(made))
        post = Post(port, per_host=20)
        for _ in range(50):
            post.offer()
        await post.wait()
        for _ in range(5):
            post.offer()  # what deliver had sent already
        assert len(post.settled) == 55
        assert len(made) == 1
        assert {(o.reply.status, o.scope) for o in post.outcomes} == {("4.3.2", HOST)}
        assert post.settled[0][2] == f"127.0.0.1[127.0.0.1]:{port}"

    run(talk())


def test_a_host_that_is_not_there_is_deferred_with_the_reason() -> None:
    async def talk() -> None:
        post = Post(free_port())
        post.offer()
        post.offer()
        await post.wait()
        assert [o.reply.status for o in post.outcomes] == ["4.4.1"] * 2
        assert "Connection refused" in post.outcomes[0].reply.text

    run(talk())


def test_a_silent_host_holds_nobody_but_its_own() -> None:
    made: list[Sink] = []
    silent: list[asyncio.Protocol] = []

    class Silent(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            silent.append(self)

    async def talk() -> None:
        _, quiet = await listen(Silent)
        _, port = await listen(lambda: Sink(made))
        post = Post(port, per_host=20)
        for _ in range(30):
            post.offer(next_hop=f"127.0.0.1:{quiet}")
        for _ in range(30):
            post.offer()
        await post.wait(30)
        assert all(tag > 30 for tag, _, _ in post.settled)
        assert len(silent) == 1

    run(talk())


def test_a_silent_host_is_given_up_for_all_that_wait() -> None:
    silent: list[asyncio.Protocol] = []

    class Silent(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            silent.append(self)

    async def talk() -> None:
        _, port = await listen(Silent)
        post = Post(port, per_host=20, scale=0.001)
        for _ in range(10):
            post.offer()
        await post.wait()
        assert len(silent) == 1
        assert {o.reply.status for o in post.outcomes} == {"4.4.2"}
        assert "timed out" in post.outcomes[0].reply.text

    run(talk())


def test_p2_connections_grow_with_success_up_to_per_host() -> None:
    made: list[Sink] = []
    most = 0

    class Counting(Sink):
        def command(self, line: bytes) -> None:
            nonlocal most
            most = max(most, sum(not sink.ended for sink in made))
            super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: Counting(made))
        post = Post(port, per_host=4)
        for _ in range(200):
            post.offer()
        await post.wait()
        assert post.codes == [250] * 200
        assert sum(len(sink.messages) for sink in made) == 200
        assert most == len(made) == 4
        await post.courier.close()
        assert all(sink.commands[-1] == b"QUIT" for sink in made)
        assert post.courier.connections == set()

    run(talk())


def test_a_connection_is_kept_for_the_next_message() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port, per_host=5)
        for count in range(1, 6):
            post.offer()
            await post.wait(count)
        assert len(made) == 1
        assert [c[:4] for c in made[0].commands] == [b"EHLO"] + [b"MAIL", b"RCPT", b"DATA"] * 5

    run(talk())


def test_an_idle_connection_is_ended_with_quit() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port, scale=0.01)
        post.offer()
        await post.wait()
        async with asyncio.timeout(10):
            while not made[0].ended:
                await asyncio.sleep(0.01)
        assert made[0].commands[-1] == b"QUIT"
        post.offer()
        await post.wait()
        assert post.codes == [250, 250]
        assert len(made) == 2

    run(talk())


@pytest.mark.parametrize("farewell", [b"421 4.7.0 enough", b""])
def test_a_stale_connection_is_replaced_once(farewell: bytes) -> None:
    made: list[Sink] = []

    class OneEach(Sink):
        def command(self, line: bytes) -> None:
            if line[:4] == b"MAIL" and self.messages:
                if farewell:
                    self.reply(farewell)
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: OneEach(made, (b"SIZE",)))
        post = Post(port)
        for _ in range(4):
            post.offer()
        await post.wait()
        assert post.codes == [250] * 4
        assert [len(sink.messages) for sink in made] == [1] * 4

    run(talk())


def test_a_message_is_not_tried_a_third_time() -> None:
    made: list[Sink] = []

    class OnlyOne(Sink):
        def command(self, line: bytes) -> None:
            if line[:4] == b"MAIL" and sum(len(sink.messages) for sink in made):
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: OnlyOne(made, (b"SIZE",)))
        post = Post(port)
        post.offer()
        post.offer()
        await post.wait()
        assert post.codes == [250, 421]
        assert len(made) == 2

    run(talk())


def test_a_message_is_tried_twice_and_not_thrice_on_kept_connections() -> None:
    async def talk() -> None:
        post = Post(free_port())
        target = post.courier.guide.fixed("127.0.0.1", free_port(), "may", False, True)
        site = Site(post.courier, target, "127.0.0.1")
        stale = Connection(site, HOSTNAME, "relay")
        stale.served = 1
        stale.client.lost("closed")
        assert stale.unheard
        with tempfile.TemporaryFile() as body:
            job = Dispatch(1, "ID", A, 0, 1.0, "h", "", False, False, (Recipient(0, B),))
            site.live[stale] = delivery = Delivery(job, body)
            outcome = Outcome(Reply(421, "4.4.2", "lost"), HOST)
            site.settled(stale, (outcome,))
            assert list(site.waiting) == [delivery]
            assert post.settled == []
            site.live[stale] = site.waiting.popleft()
            site.settled(stale, (outcome,))
            assert not site.waiting
            assert post.outcomes == [outcome]

    run(talk())


@pytest.mark.parametrize("where", [b"RCPT", b"."])
def test_a_message_that_was_heard_is_not_tried_again(where: bytes) -> None:
    made: list[Sink] = []

    class Dropping(Sink):
        def command(self, line: bytes) -> None:
            if line[:4] == where and self.messages:
                self.close()
            else:
                super().command(line)

        def reply(self, octets: bytes) -> None:
            if where == b"." and len(self.messages) == 2:
                self.close()  # it has the message, and does not say so
            else:
                super().reply(octets)

    async def talk() -> None:
        _, port = await listen(lambda: Dropping(made, (b"SIZE",)))
        post = Post(port)
        post.offer()
        post.offer()
        await post.wait()
        assert post.codes == [250, 421]
        assert len(made) == 1
        assert ("may arrive twice" in post.outcomes[1].reply.text) == (where == b".")

    run(talk())


def test_p4_a_body_goes_in_blocks_as_the_socket_takes_them() -> None:
    class Clogged(asyncio.Transport):
        """A transport that pauses its protocol at every write."""

        def __init__(self, protocol: Connection) -> None:
            super().__init__()
            self.writes: list[bytes] = []
            self.protocol = protocol

        def write(self, data: Any) -> None:
            self.writes.append(bytes(data))
            if len(data) > 1000:
                self.protocol.pause_writing()

        def abort(self) -> None:
            pass

    class Owner:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()
            self.connections: set[Connection] = set()
            self.readied = 0

        def limit(self, state: str) -> float:
            return LIMITS[state]

        def ready(self, connection: Connection) -> None:
            self.readied += 1

        def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
            pass

        def gone(self, connection: Connection, outcome: Outcome | None) -> None:
            pass

    def say(connection: Connection, octets: bytes) -> None:
        connection.get_buffer(-1)[: len(octets)] = octets
        connection.buffer_updated(len(octets))

    async def talk() -> None:
        body = (b"." * 70 + b"\r\n") * 5000
        owner = Owner()
        connection = Connection(owner, HOSTNAME, "relay")
        transport = Clogged(connection)
        connection.connection_made(transport)
        say(connection, b"220 mx\r\n")
        say(connection, b"250-mx\r\n250 PIPELINING\r\n")
        connection.proceed()
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            connection.start(Parcel(Transaction(A, (B,), len(body)), file.fileno()))
            say(connection, b"250 ok\r\n250 ok\r\n354 go\r\n")
            blocks = len(body) // BLOCK + 1
            for sent in range(1, blocks + 1):
                assert len(transport.writes) == 2 + sent  # EHLO, the transaction, blocks
                assert (connection.client.state == BODY) == (sent < blocks)
                connection.resume_writing()
            assert unstuff(b"".join(transport.writes[2:])) == body
            assert max(len(write) for write in transport.writes) < BLOCK * 1.1

    run(talk())


def test_a_long_body_arrives_as_it_was() -> None:
    made: list[Sink] = []
    body = b"".join([b"." * (i % 7) + b"line %d\r\n" % i for i in range(300_000)])

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port)
        post.offer(body)
        post.offer(body[: BLOCK - 2] + b"\r\n")  # exactly a block
        await post.wait()
        assert post.codes == [250, 250]
        first, second = made[0].messages
        assert unstuff(first + b".\r\n") == body
        assert unstuff(second + b".\r\n") == body[: BLOCK - 2] + b"\r\n"

    run(talk())


@pytest.mark.parametrize("body", [DEFAULT_BODY[:-4], DEFAULT_BODY + b"x", DEFAULT_BODY[:-1] + b"x"])
def test_a_body_that_is_not_as_promised_is_not_sent_whole(body: bytes) -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port)
        post.offer(body, size=len(DEFAULT_BODY))
        await post.wait()
        outcome = post.outcomes[0]
        assert (outcome.reply.status, outcome.scope) == ("4.3.0", "message")
        await asyncio.sleep(0)
        assert made[0].messages == []

    run(talk())


def test_addresses_of_a_name_are_tried_until_one_answers() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        names = Names(mx=Addresses(("::1", "127.0.0.7", "127.0.0.1")))
        post = Post(port, names)
        post.offer(host="mx.example.test")
        await post.wait()
        assert post.codes == [250]
        assert set(names.asked) == {"mx.example.test"}
        assert post.settled[0][2] == f"mx.example.test[127.0.0.1]:{port}"

    run(talk())


def test_a_name_that_is_not_fails_its_mail_but_not_if_we_configured_it() -> None:
    absent = Addresses((), Outcome(Reply(550, "5.1.2", "no such host name"), "recipient"))

    async def talk() -> None:
        post = Post(25, Names(gone=absent))
        post.offer(host="gone.example.test")
        post.offer(host="x.test", next_hop="gone.example.test:2525")
        await post.wait()
        by_tag = post.outcomes
        assert (by_tag[0].reply.code, by_tag[0].scope) == (550, "recipient")
        assert (by_tag[1].reply.code, by_tag[1].scope) == (421, HOST)

    run(talk())


def test_a_next_hop_that_makes_no_sense_is_deferred() -> None:
    async def talk() -> None:
        post = Post(25)
        post.offer(next_hop="host:port")
        assert [(o.reply.status, o.scope) for o in post.outcomes] == [("4.3.5", HOST)]

    run(talk())


def test_many_local_refusals_do_not_pile_up() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port)
        for _ in range(500):
            post.offer(transaction=Transaction(A, (B,), 0, True))
        post.offer()
        await post.wait()
        assert post.codes == [554] * 500 + [250]
        assert len(made) == 1

    run(talk())


@pytest.mark.parametrize("seed", range(8))
def test_p3_every_delivery_is_settled_once(seed: int) -> None:
    chance = random.Random(seed)
    made: list[Sink] = []

    class Moody(Sink):
        def command(self, line: bytes) -> None:
            mood = chance.random()
            if mood < 0.05:
                self.close()
            elif mood < 0.1:
                self.reply(b"421 4.3.2 no more")
                self.close()
            elif mood < 0.2 and line[:4] != b"EHLO":
                self.reply(chance.choice([b"450 4.0.0 later", b"550 5.0.0 never", b"nonsense"]))
            else:
                super().command(line)

    async def talk() -> None:
        extensions = (b"PIPELINING",) if seed % 2 else (b"SIZE",)
        _, port = await listen(lambda: Moody(made, extensions))
        post = Post(port, per_host=5, scale=0.01)
        for _ in range(150):
            post.offer(transaction=Transaction(NULL_PATH, (A, B)))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        await post.wait()
        await post.courier.close()
        assert sorted(tag for tag, _, _ in post.settled) == list(range(1, 151))
        assert all(len(outcomes) == 2 for _, outcomes, _ in post.settled)
        delivered = sum(any(o.reply.positive for o in told) for _, told, _ in post.settled)
        assert delivered <= sum(len(sink.messages) for sink in made)

    run(talk())


def test_sites_that_nobody_needs_are_forgotten() -> None:
    async def talk() -> None:
        post = Post(free_port(), scale=0.001)
        sites: dict[str, Site] = post.courier._sites
        post.offer()
        await post.wait()
        assert len(sites) == 1
        async with asyncio.timeout(5):
            while post.courier._sites:
                await asyncio.sleep(0.01)

    run(talk())


@pytest.mark.parametrize(("name", "value", "each"), [("MESSAGES_MAX", 3, 3), ("AGE_MAX", -1.0, 1)])
def test_a_worn_connection_is_replaced(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float, each: int
) -> None:
    made: list[Sink] = []
    monkeypatch.setattr(site, name, value)

    async def talk() -> None:
        _, port = await listen(lambda: Sink(made))
        post = Post(port)
        for _ in range(9):
            post.offer()
        await post.wait()
        await post.courier.close()
        assert post.codes == [250] * 9
        carried = [len(sink.messages) for sink in made if sink.messages]
        assert carried == [each] * (9 // each)
        assert all(sink.commands[-1] == b"QUIT" for sink in made)

    run(talk())


def test_the_longest_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sink] = []
    monkeypatch.setattr(courier, "IDLE_MAX", 2)

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Sink(made), "0.0.0.0", 0)
        port = server.sockets[0].getsockname()[1]
        post = Post(port)
        for number in (1, 2, 1, 3):
            post.offer(next_hop=f"127.0.0.{number}:{port}")
            await post.wait()
        async with asyncio.timeout(5):
            while not made[1].ended:
                await asyncio.sleep(0.01)
        assert [sink.ended for sink in made] == [False, True, False]

    run(talk())


def test_a_host_that_takes_no_more_connections_is_not_pressed() -> None:
    made: list[Sink] = []

    class Only(Sink):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            if made:
                self._made.append(self)
                assert isinstance(transport, asyncio.Transport)
                transport.write(b"421 4.7.0 one is enough\r\n")
                transport.close()
            else:
                super().connection_made(transport)

    async def talk() -> None:
        _, port = await listen(lambda: Only(made))
        post = Post(port, per_host=10)
        for _ in range(100):
            post.offer()
        await post.wait()
        assert post.codes == [250] * 100
        assert len(made) <= 3

    run(talk())


def test_a_host_that_tires_of_each_connection_is_not_pressed() -> None:
    made: list[Sink] = []
    most = 0

    class OneEach(Sink):
        def command(self, line: bytes) -> None:
            nonlocal most
            most = max(most, sum(not sink.ended for sink in made))
            if line[:4] == b"MAIL" and self.messages:
                self.reply(b"421 4.7.0 that was enough")
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: OneEach(made))
        post = Post(port, per_host=20)
        for _ in range(60):
            post.offer()
        await post.wait()
        assert post.codes.count(250) >= 30  # some are told 421 a second time
        assert most <= 4

    run(talk())


def test_a_host_that_says_no_to_its_first_message_is_not_asked_for_each() -> None:
    made: list[Sink] = []

    class Tired(Sink):
        def command(self, line: bytes) -> None:
            if line[:4] == b"MAIL":
                self.reply(b"421 4.3.2 tired")
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: Tired(made))
        post = Post(port)
        for _ in range(20):
            post.offer()
        await post.wait()
        assert post.codes == [421] * 20
        assert len(made) == 1

    run(talk())


def test_a_person_who_starts_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mta.channels.smtp"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr.startswith("smtp: ")
    assert done.stderr.count("\n") == 1
    assert callable(main)


class Program:
    """The real program, with deliver's end of its conversation."""

    def __init__(self, port: int) -> None:
        self.ours, theirs = socket.socketpair()
        self.end = DeliverEnd("smtp", "q", "mx.example.test", (("port", str(port)),), jobs=10)
        command = [sys.executable, "-m", "mta.channels.smtp"]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs)
        theirs.close()
        self.ours.setblocking(False)
        self.told: list[Told] = []

    async def run(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.ours, self.end.opening())
        sent = 0
        recipients = (Recipient(7, B), Recipient(9, A))
        job = Job(0, "q", "smtp", "127.0.0.1", "", A, recipients)
        with tempfile.TemporaryFile() as body:
            body.write(DEFAULT_BODY)
            body.flush()
            while sent < count or self.end.in_flight:
                while sent < count and self.end.free:
                    _, lines = self.end.send_job(job, "ID", len(DEFAULT_BODY), 1.0, job.recipients)
                    socket.send_fds(self.ours, [lines], [body.fileno()])
                    sent += 1
                events = self.end.receive(await loop.sock_recv(self.ours, 65536))
                self.told += [event for event in events if isinstance(event, Told)]


@pytest.mark.e2e
@pytest.mark.parametrize("ending", ["quit", "close", "term", "interrupt"])
def test_the_program_itself(ending: str) -> None:
    made: list[Sink] = []

    class Choosy(Sink):
        def command(self, line: bytes) -> None:
            if line.startswith(b"RCPT TO:<a@"):
                self.reply(b"550 5.1.1 not a")
            else:
                super().command(line)

    async def talk() -> None:
        _, port = await listen(lambda: Choosy(made))
        program = Program(port)
        await asyncio.wait_for(program.run(50), 20)
        told = [(told.indexes, told.outcome.reply.code) for told in program.told]
        assert told == [((7,), 250), ((9,), 550)] * 50
        if ending == "interrupt":
            program.process.send_signal(signal.SIGINT)  # from a terminal: deliver's to decide
            await asyncio.sleep(0.1)
            assert program.process.poll() is None
        if ending in ("quit", "interrupt"):
            program.ours.send(program.end.quit())
        elif ending == "close":
            program.ours.close()
        else:
            program.process.send_signal(signal.SIGTERM)
        status: Awaitable[int] = asyncio.to_thread(program.process.wait, 10)
        assert await status == 0
        assert sum(len(sink.messages) for sink in made) == 50
        assert all(sink.commands[-1] == b"QUIT" for sink in made)
        program.ours.close()

    run(talk())
