from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.classes import classify
from mta.dsn.report import HEADER_LIMIT, Group, Notice, date, header_of, report
from mta.dsn.wording import HOUSE, parse
from mta.types import Mailbox, Outcome, Reply

WORDS = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "Cf", "Co", "Cn"],
        exclude_characters='@"\\<>;,:()[] ',
    ),
    min_size=1,
    max_size=40,
)
MAILBOXES = st.builds(Mailbox, WORDS, st.sampled_from(["x.test", "mail.example.test"]))
OUTCOMES = st.builds(
    lambda code, status, text: Outcome(Reply(code, status, text)),
    st.integers(500, 599),
    st.sampled_from(["5.1.1", "5.7.1", "", "bad"]),
    st.text(max_size=900),
)
FAILURES = st.lists(
    st.builds(
        Group,
        MAILBOXES,
        st.none() | MAILBOXES,
        OUTCOMES,
        st.sampled_from(["", "mx.x.test[192.0.2.1]:25"]) | st.text(max_size=300),
        st.floats(0, 4e9),
    ),
    min_size=1,
    max_size=4,
)
HEADERS = st.lists(st.binary(min_size=1, max_size=60)).map(
    lambda lines: b"".join(
        b"X: " + bytes(b for b in x if b not in b"\r\n") + b"\r\n" for x in lines
    )
)


def made(failures, quoted=b"Subject: hi\r\n", to=None, **more):
    to = to or Mailbox("alice", "example.test")
    notice = Notice("mx.example.test", to, "25WZTLQ", 1e9, 1e9 + 60, "=b.0f", quoted, **more)
    return report(notice, tuple(failures))


@given(FAILURES, HEADERS)
def test_f1_the_stdlib_finds_the_parts_the_groups_and_the_header(failures, header):
    octets = made(failures, header)
    message = message_from_bytes(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    human, status, about = message.get_payload()
    assert human.get_content_type() == "text/plain"
    assert status.get_content_type() in (
        "message/delivery-status",
        "message/global-delivery-status",
    )
    assert about.get_content_type() in ("text/rfc822-headers", "message/global-headers")
    assert b"\r\n\r\n" + header + b"\r\n--=b.0f--\r\n" in octets
    if status.get_content_type() == "message/delivery-status":
        per_message, *groups = status.get_payload()
        assert per_message["Reporting-MTA"] == "dns; mx.example.test"
        assert len(groups) == len(failures)
        for group, failure in zip(groups, failures, strict=True):
            assert group["Action"] == "failed"
            assert group["Status"].startswith("5.")
            assert group["Final-Recipient"] == f"rfc822; {failure.mailbox}"
            assert (group["Original-Recipient"] is None) == (failure.original is None)


@given(FAILURES)
def test_f2_whatever_was_said_the_lines_are_clean_and_short(failures):
    for line in made(failures).split(b"\r\n"):
        assert len(line) <= 998
        assert not any(octet < 32 or octet == 127 for octet in line)


@given(FAILURES, HEADERS)
def test_f3_it_is_8bit_iff_it_holds_8_bits(failures, header):
    octets = made(failures, header)
    label = message_from_bytes(octets)["Content-Transfer-Encoding"]
    assert label == ("7bit" if octets.isascii() else "8bit")


def test_who_gets_what_from_whom():
    failure = Group(
        Mailbox("bob", "x.test"),
        Mailbox("staff", "example.test"),
        Outcome(Reply(550, "5.1.1", "no such user")),
        "mx.x.test[192.0.2.1]:25",
        1e9 + 50,
    )
    message = message_from_bytes(made([failure]), policy=policy.default)
    assert message["To"].addresses[0].addr_spec == "alice@example.test"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<=b.0f@mx.example.test>"
    assert message.defects == []
    human, status, about = message.iter_parts()
    assert "<bob@x.test> (by way of <staff@example.test>):" in human.get_content()
    assert "    mx.x.test[192.0.2.1]:25 said: 550 5.1.1 no such user" in human.get_content()
    fields = status.get_payload()[1]
    assert fields["Original-Recipient"] == "rfc822; staff@example.test"
    assert fields["Remote-MTA"] == "dns; mx.x.test"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert parsedate_to_datetime(fields["Last-Attempt-Date"]).timestamp() == 1e9 + 50
    assert about.get_payload().startswith("Subject: hi")


def test_what_no_server_said_is_not_told_as_smtp():
    failure = Group(
        Mailbox("b", "x.test"), None, Outcome(Reply(550, "5.1.1", "user unknown")), "", 0.0
    )
    status = message_from_bytes(made([failure])).get_payload()[1]
    fields = status.get_payload()[1]
    assert fields["Remote-MTA"] is None
    assert fields["Diagnostic-Code"] == "x-posthouse; 550 5.1.1 user unknown"


def test_an_address_that_is_not_ascii_is_told_as_rfc_6533_wants():
    octets = made([Group(Mailbox("jörg", "x.test"), None, Outcome(Reply(550, "", "")), "", 0.0)])
    assert b"message/global-delivery-status" in octets
    assert "Final-Recipient: utf-8; jörg@x.test".encode() in octets


def test_a_boundary_that_occurs_is_refused():
    with pytest.raises(ValueError, match="boundary"):
        made(
            [Group(Mailbox("b", "x.test"), None, Outcome(Reply(550, "", "")), "", 0.0)],
            b"Subject: --=b.0f\r\n",
        )


@given(st.floats(0, 4e9))
def test_dates_are_read_back(at):
    assert parsedate_to_datetime(date(at)).timestamp() == int(at)


BOB = Mailbox("bob", "x.test")
OK = Outcome(Reply(250, "2.0.0", "ok"))


@given(HEADERS, st.binary(max_size=200))
def test_f4_a_message_that_is_returned_whole_is_there(header, body):
    message = header + b"\r\n" + body + b"\r\n"
    octets = made([Group(BOB, None, OK, "", 0.0)], message, whole=True)
    assert b"\r\n\r\n" + message + b"\r\n--=b.0f--\r\n" in octets
    kind = message_from_bytes(octets).get_payload()[2].get_content_type()
    assert kind in ("message/rfc822", "message/global")


@pytest.mark.parametrize(
    ("header", "whole", "kind"),
    [
        (b"A: b\r\n", True, "message/rfc822"),
        (b"A: \xc3\xbc\r\n", True, "message/global"),
        (b"A: \xff\r\n", True, "message/rfc822"),
        (b"A: b\r\n", False, "text/rfc822-headers"),
        (b"A: \xc3\xbc\r\n", False, "message/global-headers"),
    ],
)
def test_the_third_part_is_labelled_by_its_header(header, whole, kind):
    quoted = header + (b"\r\n\xc3\xbc\r\n" if whole else b"")
    octets = made([Group(BOB, None, OK, "", 0.0)], quoted, whole=whole)
    assert message_from_bytes(octets).get_payload()[2].get_content_type() == kind


def test_what_was_asked_for_is_answered_as_rfc_3461_wants():
    groups = [
        Group(BOB, None, OK, "mx.x.test[192.0.2.1]:25", 1e9, "relayed", "rfc822;Bob+x@y.test"),
        Group(Mailbox("carol", "x.test"), BOB, OK, "", 1e9, "delivered"),
    ]
    message = message_from_bytes(made(groups, envid="QQ 3141"), policy=policy.default)
    assert message["Subject"] == "Your message was delivered"
    human, status, _ = message.iter_parts()
    per_message, relayed, delivered = status.get_payload()
    assert per_message["Original-Envelope-Id"] == "QQ 3141"
    assert relayed["Action"] == "relayed"
    assert relayed["Original-Recipient"] == "rfc822; Bob+x@y.test"
    assert relayed["Status"] == "2.0.0"
    assert delivered["Action"] == "delivered"
    assert delivered["Original-Recipient"] == "rfc822; bob@x.test"
    text = human.get_content()
    assert "passed on" in text
    assert "could not" not in text


def test_a_failure_gives_the_subject_of_a_report_of_several_kinds():
    no = Outcome(Reply(550, "5.1.1", "no"))
    groups = [Group(BOB, None, OK, "", 0.0, "delivered"), Group(BOB, None, no, "", 0.0)]
    message = message_from_bytes(made(groups))
    assert message["Subject"] == "Your message could not be delivered"
    actions = [group["Action"] for group in message.get_payload()[1].get_payload()[1:]]
    assert actions == ["delivered", "failed"]


@pytest.mark.parametrize(
    ("start", "header"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"\r\nbody\r\n", b""),
        (b"A: 1\r\nB: cut", b"A: 1\r\n"),
        (b"no line end", b""),
        (b"", b""),
    ],
)
def test_the_header_is_cut_where_it_ends(start, header):
    assert header_of(start) == header


def test_a_long_header_is_cut_at_a_line():
    header = header_of(b"A: %s\r\n" % (b"x" * 994) * 100)
    assert HEADER_LIMIT - 1000 < len(header) <= HEADER_LIMIT
    assert header.endswith(b"\r\n")


GREY = Outcome(Reply(451, "4.7.1", "Greylisted, come back later"))


@given(
    st.lists(
        st.builds(
            Group,
            MAILBOXES,
            st.none(),
            st.sampled_from([GREY, OK, Outcome(Reply(552, "5.2.2", "over quota"))]),
            st.just("mx"),
            st.just(1e9),
            st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
            st.just(""),
            st.sampled_from([0.0, 1e9 + 3600]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_f5_people_are_told_of_each_recipient_why_and_until_when(groups):
    human = message_from_bytes(made(groups)).get_payload()[0].get_payload(decode=True).decode()
    said = " ".join(human.split())
    for group in groups:
        assert f"<{group.mailbox}>" in said
        name = classify(group.outcome.reply)
        assert not name or HOUSE[f"class {name}"] in said
        if group.action == "delayed" and group.until:
            assert f"It will be tried until {date(group.until)}." in said


def test_a_delay_says_what_was_said_last_and_until_when_it_will_be_tried():
    until = 1e9 + 432000
    message = message_from_bytes(made([Group(BOB, None, GREY, "mx", 1e9, "delayed", "", until)]))
    assert message["Subject"] == "Your message has not been delivered yet"
    fields = message.get_payload()[1].get_payload()[1]
    assert fields["Action"] == "delayed" and fields["Status"] == "4.7.1"
    assert parsedate_to_datetime(fields["Will-Retry-Until"]).timestamp() == until
    human = " ".join(message.get_payload()[0].get_payload().split())
    assert "come again later" in human and "said: 451 4.7.1" in human


def test_what_was_never_tried_has_no_date_of_an_attempt():
    octets = made([Group(BOB, None, GREY, "", 0.0, "delayed", "", 1e9)])
    assert b"Last-Attempt-Date" not in octets and b"Will-Retry-Until" in octets


def test_the_postmaster_is_told_why_it_is_him_who_is_told():
    groups = [Group(BOB, None, Outcome(Reply(550, "5.1.1", "no")), "", 0.0)]
    message = message_from_bytes(made(groups, why="the reverse-path is null"))
    assert message["Subject"] == "Undelivered mail whose author cannot be told"
    human = " ".join(message.get_payload()[0].get_payload().split())
    assert "cannot be told of that (the reverse-path is null)." in human


def test_a_site_has_words_of_its_own_and_in_its_own_language():
    words = parse("[subject failed]\nNicht zustellbar: für $to\n[failed]\nGrüße aus $hostname\n")
    notice = Notice("mx.test", Mailbox("a", "x.test"), "ID", 1e9, 1e9, "=b.0f", b"Subject: hi\r\n")
    octets = report(notice, (Group(BOB, None, GREY, "", 0.0),), words)
    message = message_from_bytes(octets, policy=policy.default)
    assert message["Subject"] == "Nicht zustellbar: für a@x.test"
    assert "Grüße aus mx.test" in next(message.iter_parts()).get_content()
    head = octets[: octets.index(b"\r\n\r\n")]
    assert head.isascii() and all(len(line) <= 76 for line in head.split(b"\r\n"))
