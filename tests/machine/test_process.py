import os
import select
import signal
import subprocess
import sys

import pytest

from mta.machine.clock import monotonic, wall
from mta.machine.load import load_average
from mta.machine.process import Signals, die_with_parent, set_title


def test_m1_a_signal_sets_a_flag_and_wakes():
    signals = Signals(signal.SIGUSR1, signal.SIGUSR2)
    try:
        assert signals.taken() == frozenset()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([signals], [], [], 5)[0]
        assert signals.taken() == {signal.SIGUSR1}
        assert not select.select([signals], [], [], 0)[0]
        assert signals.taken() == frozenset()
    finally:
        signals.close()


def test_many_signals_do_not_block():
    signals = Signals(signal.SIGUSR1)
    try:
        for _ in range(70_000):
            signals._note(signal.SIGUSR1, None)
        assert signals.taken() == {signal.SIGUSR1}
    finally:
        signals.close()


def test_close_puts_back_what_was_before():
    before = signal.getsignal(signal.SIGUSR1)
    Signals(signal.SIGUSR1).close()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_m2_a_parent_that_is_gone_already_ends_us():
    with pytest.raises(SystemExit):
        die_with_parent(2**22 + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_m2_a_child_does_not_outlive_its_parent():
    code = (
        "import os, time\n"
        "from mta.machine.process import die_with_parent\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    die_with_parent(parent)\n"
        "    os.write(1, b'x')\n"
        "    time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.read(0, 1)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stdin is not None
    assert parent.stdout.read(1) == b"x"
    parent.stdin.close()  # the parent ends; its child holds the other end of stdout
    assert parent.stdout.read() == b""
    parent.wait()
    parent.stdout.close()


def test_a_title_and_the_clocks_and_the_load_are_there():
    set_title("posthouse test")
    assert wall() > 1e9 and monotonic() >= 0 and load_average() >= 0
