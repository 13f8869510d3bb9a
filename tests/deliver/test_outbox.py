import os
import socket
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.deliver.outbox import Outbox

ITEMS = st.lists(
    st.tuples(
        st.sampled_from(["lines", "descriptor", "body"]), st.integers(1, 3000)
    ),
    max_size=30,
)  # fmt: skip


def open_file(octets):
    fd, path = tempfile.mkstemp()
    os.write(fd, octets)
    os.lseek(fd, 0, os.SEEK_SET)
    os.unlink(path)
    return fd


@settings(deadline=None, max_examples=40)
@given(ITEMS, st.integers(1, 5000))
def test_o1_o2_octets_and_descriptors_arrive_in_order(items, piece):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    outbox, expected, marks, given_fds = Outbox(ours), b"", [], []
    for number, (kind, size) in enumerate(items):
        text = b"%d\n" % number
        if kind == "body":
            octets = bytes([number]) * size
            given_fds.append(open_file(octets))
            outbox.add(text)
            outbox.add_body(given_fds[-1], size)
            text += octets
        elif kind == "descriptor":
            given_fds.append(open_file(text))
            outbox.add(text, given_fds[-1])
            marks.append((len(expected), text))
        else:
            outbox.add(text)
        expected += text
    came, fds, done = b"", [], False
    while not done or len(came) < len(expected):
        done = outbox.flush()
        try:
            octets, more, _, _ = socket.recv_fds(theirs, piece, 250)
        except BlockingIOError:
            continue
        came += octets
        fds += more
        due = [text for start, text in marks if start < len(came)]
        assert len(fds) >= len(due)  # a descriptor is there when its line is
    assert came == expected
    assert [os.read(fd, 10) for fd in fds] == [text for _, text in marks]
    for fd in fds:
        os.close(fd)
    ours.close()
    theirs.close()


def test_o2_what_was_not_sent_is_closed():
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours)
    first, second = open_file(b"x"), open_file(b"y")
    outbox.add(b"line\n", first)
    outbox.add_body(second, 1)
    outbox.add_body(open_file(b""), 0)
    outbox.close()
    assert outbox.flush()
    for fd in (first, second):
        try:
            os.fstat(fd)
        except OSError:
            continue
        raise AssertionError(f"descriptor {fd} is open")
    ours.close()
    theirs.close()


def test_a_body_that_is_too_short_breaks_the_conversation():
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours)
    outbox.add_body(open_file(b"abc"), 5)
    try:
        outbox.flush()
    except OSError as error:
        assert "2 octets early" in str(error)
    else:
        raise AssertionError("nobody noticed")
    outbox.close()
    ours.close()
    theirs.close()
