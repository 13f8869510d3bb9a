"""Questions and answers over datagrams: bounded, never waiting long, and only for the owner."""

import os
import stat
import threading
import time

from mta.machine.asking import ANSWER, NAMES, Question, ask, read_question, tell
from mta.machine.wake import Ear

PID = os.getpid()


class Answerer:
    """Answers what comes to the ear of one queue, as a deliver would, in a thread."""

    def __init__(self, runtime, queue, answer):
        self.runtime, self.answer = runtime, answer
        self.ear, self.asked, self.modes = Ear(runtime, f"wake/{queue}.{PID}"), [], set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.ended.is_set():
            for datagram in self.ear.read():
                question = read_question(datagram[1:])
                self.asked.append(question)
                path = f"{self.runtime}/{question.name}"
                self.modes.add(stat.S_IMODE(os.stat(path).st_mode))
                if self.answer is not None:
                    tell(self.runtime, question, self.answer(question))
            time.sleep(0.002)

    def close(self):
        self.ended.set()
        self.thread.join()
        self.ear.close()


def test_every_job_is_asked_about_and_every_answer_comes(tmp_path):
    runtime = str(tmp_path)
    one = Answerer(runtime, "smtp", lambda question: b"%d" % len(question.files))
    two = Answerer(runtime, "local", lambda question: b"l" * 60_000)
    try:
        files = [f"H/{n:016}.0.x" for n in range(3 * NAMES + 1)]
        answers = ask(runtime, {"smtp": files, "local": files[:1], "other": files}, 30.0)
    finally:
        one.close()
        two.close()
    assert sorted(len(octets) for _, octets in answers.came) == [1, 2, 2, 2, 60_000]
    assert {pid for pid, _ in answers.came} == {PID} and answers.silent == ()
    assert sorted(file for question in one.asked for file in question.files) == files
    assert one.modes == {0o600}
    assert sorted(os.listdir(tmp_path)) == ["wake"]


def test_who_does_not_answer_costs_the_limit_once(tmp_path):
    runtime = str(tmp_path)
    deaf = Ear(runtime, f"wake/smtp.{PID}")
    began = time.monotonic()
    answers = ask(runtime, {"smtp": [f"H/{n}" for n in range(40 * NAMES)]}, 0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert answers.came == () and answers.silent == (("smtp", PID),)
    deaf.close()


def test_where_nobody_listens_nothing_is_waited_for(tmp_path):
    Ear(str(tmp_path), "wake/smtp.4194400")._sock.close()  # of a deliver that was killed
    began = time.monotonic()
    assert ask(str(tmp_path), {"smtp": ["H/x"]}, 60.0).silent == ()
    Ear(str(tmp_path), f"wake/smtp.{PID}")._sock.close()  # whose pid another process has now
    assert ask(str(tmp_path), {"smtp": ["H/x"]}, 60.0).silent == ()
    assert ask(str(tmp_path / "none"), {"smtp": ["H/x"]}, 60.0).came == ()
    assert time.monotonic() - began < 30


def test_what_is_no_question_is_none():
    assert read_question(b"asked.17 3\nH/a\nH/b") == Question("asked.17", "3", ("H/a", "H/b"))
    for bad in (b"", b"asked.", b"asked.1/../x 3\nH", b"intake 3\nH", b"asked.x 3", b"../asked.1 "):
        assert read_question(bad) is None
    many = b"asked.1 0\n" + b"\n".join([b"H/a"] * 1000)
    question = read_question(many)
    assert question is not None and len(question.files) == NAMES


def test_an_answer_that_is_too_large_is_not_sent(tmp_path):
    ear = Ear(str(tmp_path), "asked.1")
    question = Question("asked.1", "0", ())
    assert not tell(str(tmp_path), question, b"x" * ANSWER)
    assert tell(str(tmp_path), question, b"x" * (ANSWER - 2))
    assert len(ear.read(size=ANSWER)[0]) == ANSWER
    ear.close()
