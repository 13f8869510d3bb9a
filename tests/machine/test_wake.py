"""Wake-ups arrive, and a listener that is slow, gone or far away harms nobody."""

import os

from mta.machine.wake import HELD, RECALLED, Bell, Ear, Recall, wake_intake


def test_intake_hears_how_far_a_segment_is_synced(tmp_path):
    ear = Ear(str(tmp_path), "intake")
    assert wake_intake(str(tmp_path), "SEG", 4096)
    assert ear.read() == [b"SEG 4096"]
    ear.close()
    assert not wake_intake(str(tmp_path), "SEG", 4096)
    assert os.listdir(tmp_path) == []


def test_a_path_longer_than_an_address_works(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    ear = Ear(str(deep), "intake")
    assert wake_intake(str(deep), "S", 1)
    assert ear.read() == [b"S 1"]
    ear.close()


def test_every_deliver_of_the_queue_hears_new_jobs(tmp_path):
    runtime = str(tmp_path)
    one, two = Ear(runtime, "wake/smtp.1"), Ear(runtime, "wake/smtp.2")
    other = Ear(runtime, "wake/local.3")
    bell = Bell(runtime)
    bell.ring("smtp", ["H/A.0.x", "H/B.0.y"])
    assert one.read() == two.read() == [b"H/A.0.x\nH/B.0.y"]
    assert other.read() == [] and not bell.pending


def test_what_a_busy_deliver_could_not_take_is_told_again(tmp_path):
    ear, bell = Ear(str(tmp_path), "wake/smtp.1"), Bell(str(tmp_path))
    files = [f"H/{n:016d}.0.host.example.test" for n in range(5000)]
    for at in range(0, len(files), 100):
        bell.ring("smtp", files[at : at + 100])
    heard: list[str] = []
    for _ in range(1000):
        heard += [line for d in ear.read() for line in d.decode().split("\n")]
        if not bell.pending:
            break
        bell.retry()
    heard += [line for d in ear.read() for line in d.decode().split("\n")]
    assert heard == files


def test_one_that_never_listens_is_told_to_look_for_itself(tmp_path):
    ear, bell = Ear(str(tmp_path), "wake/smtp.1"), Bell(str(tmp_path))
    for _ in range(40):
        bell.ring("smtp", ["H/" + "x" * 200] * (HELD // 20))
    assert bell.pending
    for _ in range(5000):
        heard = ear.read()
        bell.retry()
        if not bell.pending:
            break
    heard = [*heard, *ear.read()]
    assert heard[-1] == b"*"


def test_the_socket_of_a_dead_deliver_is_removed(tmp_path):
    Ear(str(tmp_path), "wake/smtp.4194400")._sock.close()
    bell = Bell(str(tmp_path))
    bell.ring("smtp", ["H/x"])
    assert os.listdir(tmp_path / "wake") == [] and not bell.pending


def test_without_a_descriptor_nobody_is_woken_and_nothing_fails(tmp_path, monkeypatch):
    def socket(*_):
        raise OSError(24, "too many open files")

    ear = Ear(str(tmp_path), "intake")
    monkeypatch.setattr("mta.machine.wake._socket.socket", socket)
    assert not wake_intake(str(tmp_path), "SEG", 1)
    ear.close()


def test_an_operators_change_is_told_name_by_name_or_as_all(tmp_path, monkeypatch):
    runtime = str(tmp_path)
    ear, other = Ear(runtime, "wake/smtp.1"), Ear(runtime, "wake/local.1")
    recall = Recall(runtime)
    recall.send()
    recall.add("smtp", "H/A.0.x")
    recall.add("smtp", "H/B.0.y")
    recall.send()
    recall.send()
    assert ear.read() == [b"+H/A.0.x\nH/B.0.y"] and other.read() == []
    for number in range(RECALLED + 1):
        recall.add("smtp", f"H/{number}.0.x")
    recall.send()
    assert ear.read() == [b"+*"]
    monkeypatch.setattr("mta.machine.wake.PATIENCE", 0.1)
    for _ in range(50):  # nobody listens: it gives up in time
        for number in range(1000):
            recall.add("smtp", f"H/{number:0200}.0.x")
        recall.send()
    assert all(len(datagram) <= 1 << 14 and datagram[:1] == b"+" for datagram in ear.read())
