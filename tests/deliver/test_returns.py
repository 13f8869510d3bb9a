"""DSNs through the door: what is accepted, and what is told when it is not."""

import asyncio
from email import message_from_bytes

import pytest

from mta.config.load import load_config
from mta.deliver.gather import Return
from mta.deliver.returns import Returns
from mta.dsn.report import Group
from mta.types import NULL_PATH, Mailbox, Outcome, Reply
from tests.inlet import one, queued, write_site

ALICE = Mailbox("alice", "example.test")
NO = Group(Mailbox("bob", "x.test"), None, Outcome(Reply(550, "5.1.1", "no")), "mx", 1e9)
MESSAGE = b"Subject: hi\r\n\r\n" + b"x" * 78 * 20 + b"\r\n"


def answered(folder, notice, size="10MiB"):
    config = load_config(str(write_site(folder, size)))

    async def scenario():
        returns, answers = Returns(config, lambda: None), []
        returns.accept(notice, lambda dsn_id, why: answers.append((dsn_id, why)))
        while not answers:
            await asyncio.sleep(0.005)
        returns.close()
        return answers[0]

    return asyncio.run(scenario())


def test_a_dsn_is_accepted_for_the_null_path_and_keeps_what_was_asked(tmp_path):
    notice = Return(ALICE, "ID", 1e9, (NO,), MESSAGE, "E1", whole=True, requiretls=True)
    dsn_id, why = answered(tmp_path, notice)
    entry, octets = one(tmp_path)
    assert (entry.envelope.id, why) == (dsn_id, "")
    assert entry.envelope.reverse_path == NULL_PATH
    assert entry.envelope.requiretls
    assert MESSAGE in octets
    status = message_from_bytes(octets).get_payload()[1].get_payload()
    assert status[0]["Original-Envelope-Id"] == "E1"


def test_a_message_that_makes_the_dsn_too_large_is_told_by_its_header(tmp_path):
    notice = Return(ALICE, "ID", 1e9, (NO,), MESSAGE, whole=True)
    assert answered(tmp_path, notice, size="2000")[0]
    _, octets = one(tmp_path)
    assert b"text/rfc822-headers" in octets
    assert b"Subject: hi\r\n" in octets
    assert b"xxx" not in octets


@pytest.mark.parametrize(
    ("to", "dsn_id"), [(Mailbox("nobody", "example.test"), "-"), (Mailbox("a", "far.test"), "-")]
)
def test_an_author_who_is_unknown_is_told_nothing(tmp_path, to, dsn_id):
    told, why = answered(tmp_path, Return(to, "ID", 1e9, (NO,), b"Subject: hi\r\n"))
    assert (told, queued(tmp_path)) == (dsn_id, [])
    assert "cannot be told" in why
