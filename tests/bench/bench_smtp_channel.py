"""What the smtp channel program costs a message: deliver's end here, smtp-sink at the other.

    python tests/bench/bench_smtp_channel.py [MESSAGES [SIZE [JOBS [PER_HOST]]]]

Prints messages a second and CPU per message of the channel program alone.
smtp-sink is in Debian's package postfix; $SMTP_SINK names it if it is not on
the PATH.  Where there is none, a sink of its own takes the messages, in
another process: figures compare only with those of the same sink.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from mta.channel.records import Answer, Told
from mta.channel.talk import DeliverEnd
from mta.types import Job, Mailbox, Recipient


def free_port() -> int:
    """Return a port of the loopback that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens on ``port``."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("the sink does not listen")


class Sink(asyncio.Protocol):
    """Takes all that comes, with PIPELINING; looks at no more than it must."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer, self.data = b"", False
        self.transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer each command; in DATA look for the end alone."""
        self.buffer += data
        replies = []
        while True:
            if self.data:
                end = self.buffer.find(b"\r\n.\r\n")
                if end < 0:
                    self.buffer = self.buffer[-4:]
                    break
                self.buffer, self.data = self.buffer[end + 5 :], False
                replies.append(b"250 2.0.0 kept\r\n")
                continue
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                break
            self.buffer = rest
            verb = line[:4]
            self.data = verb == b"DATA"
            replies.append(REPLIES.get(verb, b"250 2.1.0 ok\r\n"))
        self.transport.write(b"".join(replies))


REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n",
    b"DATA": b"354 go\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


async def serve_sink(port: int) -> None:
    """Be the sink on ``port`` until terminated."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


def start_sink(sink: str | None, port: int) -> subprocess.Popen[bytes]:
    """Start smtp-sink, or this file as one."""
    if sink is None:
        return subprocess.Popen([sys.executable, __file__, "--sink", str(port)])
    return subprocess.Popen([sink, "-u", "nobody", f"127.0.0.1:{port}", "1000"])


def body_of(size: int) -> bytes:
    """Return a message of exactly ``size`` octets."""
    head = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: bench\r\n\r\n"
    lines = (b"x" * 76 + b"\r\n") * (size // 78 + 2)
    return (head + lines)[: size - 2] + b"\r\n"


def conversation(end: DeliverEnd, sock: socket.socket, fd: int, count: int, size: int) -> int:
    """Hand ``count`` jobs to the program, as many at once as it takes; return the delivered."""
    host = "127.0.0.1"
    recipients = (Recipient(0, Mailbox("b", "example.test")),)
    job = Job(0, "q", "smtp", host, "", Mailbox("a", "example.test"), recipients)
    sent = delivered = 0
    sock.sendall(end.opening())
    while sent < count or end.in_flight:
        lines = []
        while sent < count and end.free and len(lines) < 100:
            lines.append(end.send_job(job, f"ID{sent}", size, 1.0, recipients)[1])
            sent += 1
        if lines:
            octets = b"".join(lines)
            taken = socket.send_fds(sock, [octets], [fd] * len(lines))
            sock.sendall(octets[taken:])
        for event in end.receive(sock.recv(262144)):
            if isinstance(event, Told):
                delivered += event.outcome.reply.positive
            elif isinstance(event, Answer):
                pass
    return delivered


def peak_of(pid: int) -> str:
    """Return the peak resident size of process ``pid``; rusage would count its parent's."""
    with open(f"/proc/{pid}/status") as status:
        return next(line.split(None, 1)[1].strip() for line in status if line.startswith("VmHWM"))


def run(sink: str | None, count: int, size: int, jobs: int, per_host: int) -> str:
    """Run once and return the line of figures."""
    port = free_port()
    peer = start_sink(sink, port)
    try:
        wait_for(port)
        ours, theirs = socket.socketpair()
        options = (("relay", f"127.0.0.1:{port}"), ("per_host", str(per_host)))
        end = DeliverEnd("smtp", "q", "bench.example.test", options, jobs=jobs)
        with tempfile.TemporaryFile() as body:
            body.write(body_of(size))
            body.flush()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            begun = time.perf_counter()
            program = subprocess.Popen(
                [sys.executable, *os.environ.get("PYFLAGS", "").split(), "-m", "mta.channels.smtp"],
                stdin=theirs,
                stdout=theirs,
            )
            theirs.close()
            delivered = conversation(end, ours, body.fileno(), count, size)
            took = time.perf_counter() - begun
            peak = peak_of(program.pid)
            ours.sendall(end.quit())
            status = program.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        peer.terminate()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        f"smtp channel: {delivered}/{count} messages of {size} octets, {jobs} jobs, "
        f"{per_host} connections: {count / took:.0f}/s, {cpu / count * 1000:.3f} ms CPU a message "
        f"(start included), peak {peak}, exit {status}"
    )


def main() -> None:
    """Measure, or be the sink."""
    if sys.argv[1:2] == ["--sink"]:
        try:
            from uvloop import run as run_loop
        except ImportError:
            run_loop = asyncio.run
        run_loop(serve_sink(int(sys.argv[2])))
        return
    sink = os.environ.get("SMTP_SINK") or shutil.which("smtp-sink", path=os.defpath + ":/usr/sbin")
    if sink is not None and not os.access(sink, os.X_OK):
        sink = None
    numbers = [int(word) for word in sys.argv[1:]]
    count, size, jobs, per_host = (numbers + [10000, 4096, 100, 20][len(numbers) :])[:4]
    print(run(sink, count, size, jobs, per_host))


if __name__ == "__main__":
    main()
