"""The router: R9 to R13, and what ``mta route`` prints."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_mailbox
from mta.route.router import Routed, Router, Target, as_dict, render_text
from mta.route.table import ChannelRow, ChannelTable, Pattern
from mta.types import Mailbox
from mta.values import replace

HERE = "here.test"
CHANNELS = (
    ChannelRow("lists", "lists", False, (Pattern("lists.test", "", "domains"),)),
    ChannelRow(
        "local", "local", True, (Pattern(HERE, "", "$local"), Pattern("two.test", "", "$local"))
    ),
    ChannelRow("net", "net", False, (), "tables/net", ((4, ".net.test", "hop.test:2526"),)),
    ChannelRow("smtp", "out", False, (Pattern(".test", "", "domains"),)),
)
ALIASES = {
    "team": ("alice", "x@a.net.test", "|run"),
    "owner-team": ("bob",),
    "lost": ("nosuch", "x@nowhere"),
    "part": ("alice", "x@nowhere", "no\x1b[2Jsuch"),
    "loop": ("pool",),
    "pool": ("loop",),
    "empty": (),
    "gone": (":include:/f",),
}


def no_list(path: str) -> str:
    raise PermissionError(13, "Permission denied", path)


def router(
    aliases: dict[str, tuple[str, ...]] | None = None,
    known: Callable[[str], bool] = ("alice", "bob").__contains__,
    first_user: str = "alice",
    domains: tuple[str, ...] = (HERE, "two.test"),
) -> Router:
    given_aliases = ALIASES if aliases is None else aliases
    table = ChannelTable(CHANNELS)
    return Router(table, domains, "mx.here.test", given_aliases, known, no_list, first_user)


def route(address: str, **options: object) -> Routed:
    return router(**options).route(parse_mailbox(address, HERE))


def reply(address: str) -> str:
    outcome = route(address).outcome
    assert outcome is not None
    return str(outcome.reply)


def test_remote_by_suffix_and_by_table() -> None:
    box = Mailbox("X", "b.test")
    assert route("X@B.test") == Routed(
        box, (Target(box, "", None, "out", "smtp", "b.test", "", None),), None
    )
    box = Mailbox("x", "a.net.test")
    target = Target(box, "", None, "net", "net", "a.net.test", "hop.test:2526", None)
    assert route("x@a.net.test").targets == (target,)


def test_local_user_keeps_its_tag() -> None:
    box = Mailbox("Bob+x", HERE)
    assert route("Bob+x").targets == (Target(box, "", None, "local", "local", "", "", None),)


def test_alias_with_owner() -> None:
    asked, owner = Mailbox("Team", HERE), Mailbox("owner-team", HERE)
    hop = "hop.test:2526"
    assert route("Team").targets == (
        Target(Mailbox("alice", HERE), "", asked, "local", "local", "", "", owner),
        Target(Mailbox("x", "a.net.test"), "", asked, "net", "net", "a.net.test", hop, owner),
        Target(Mailbox("team", HERE), "|run", asked, "local", "local", "", "", owner),
    )


def test_action_of_the_address_itself_has_no_original() -> None:
    assert route("team").targets[2].original is None


def test_a_channel_that_is_not_local_gets_the_local_part_as_it_is() -> None:
    box = Mailbox("team", "lists.test")
    target = Target(box, "", None, "lists", "lists", "lists.test", "", None)
    assert route("team@lists.test").targets == (target,)


def test_refusals() -> None:
    assert reply("nosuch") == "550 5.1.1 no such user here"
    assert reply("x@nowhere") == "550 5.1.2 no channel knows this host"
    assert reply("x@[127.0.0.1]") == "550 5.1.2 no channel knows this host"
    assert reply("loop") == "550 5.4.6 alias loop: loop -> pool -> loop"
    assert reply("gone") == "451 4.3.5 a list behind this address cannot be read now"
    assert reply("lost") == "550 5.2.4 no member of this address can be used"
    assert reply("empty") == "550 5.2.4 no member of this address can be used"
    assert route("gone").left_out[0].subject == "include /f"


def test_bad_members_are_left_out_and_named() -> None:
    routed = route("part")
    assert [str(t.mailbox) for t in routed.targets] == ["alice@here.test"]
    assert [(s.subject, s.detail) for s in routed.left_out] == [
        ("member no [2Jsuch", "the address holds a control character"),
        ("member x@nowhere", "no channel knows this host"),
    ]


def test_without_a_domain() -> None:
    assert router().route(Mailbox("alice", "")).mailbox == Mailbox("alice", HERE)
    assert router(domains=()).default_domain == "mx.here.test"
    assert router().is_local("two.test")
    assert not router().is_local("lists.test")
    assert not router().is_local("nowhere")


tables = st.dictionaries(
    st.sampled_from(["postmaster", "mailer-daemon", "root", "alice", "a"]),
    st.lists(
        st.sampled_from(
            [
                "postmaster",
                "mailer-daemon",
                "root",
                "alice",
                "a",
                "nosuch",
                "x@nowhere",
                "x@b.test",
                ":include:/f",
                "|run",
                "\\alice",
                "(",
            ]
        ),
        max_size=4,
    ).map(tuple),
)
addresses = st.sampled_from(
    [
        "postmaster",
        "Mailer-Daemon@two.test",
        "alice",
        "a+x",
        "nosuch",
        "root",
        "x@b.test",
        "x@nowhere",
        "a@lists.test",
        "alice@[::1]",
    ]
)


@given(tables, addresses)
def test_r9_targets_or_outcome(table: dict[str, tuple[str, ...]], text: str) -> None:
    local, _, domain = text.partition("@")
    routed = router(table).route(Mailbox(local, domain or HERE))
    assert (routed.outcome is None) == bool(routed.targets)
    if routed.outcome is not None:
        assert routed.outcome.reply.code >= 400


@given(st.sampled_from(["b.test", "x.net.test", "lists.test"]), st.text(min_size=1))
def test_r10_not_local_is_passed_on(domain: str, local: str) -> None:
    def forbidden(_: str) -> bool:
        raise AssertionError

    asked = Mailbox(local, domain)
    routed = router({local.lower(): ("x@y.test",)}, forbidden).route(asked)
    (target,) = routed.targets
    assert (target.mailbox, target.host, target.original) == (asked, domain, None)
    assert target.next_hop == ("hop.test:2526" if domain == "x.net.test" else "")


@given(
    tables,
    st.sampled_from(["postmaster", "POSTMASTER", "mailer-daemon", "Mailer-Daemon+x"]),
    st.sampled_from([HERE, "two.test", ""]),
    st.sampled_from([("alice", "alice"), ("", "root")]),
)
def test_r11_postmaster_resolves(
    table: dict[str, tuple[str, ...]], name: str, domain: str, users: tuple[str, str]
) -> None:
    first, known = users
    routed = router(table, known.__eq__, first).route(Mailbox(name, domain))
    assert routed.outcome is None
    assert routed.targets


def test_r11_by_example() -> None:
    assert [t.mailbox.local for t in route("postmaster").targets] == ["alice"]
    broken = {"postmaster": ("nosuch",)}
    assert [t.mailbox.local for t in route("postmaster", aliases=broken).targets] == ["alice"]
    assert [t.mailbox.local for t in route("mailer-daemon", aliases=broken).targets] == ["alice"]
    nobody = route("postmaster", aliases={}, known=lambda _: False)
    assert nobody.outcome is not None
    assert str(nobody.outcome.reply) == "451 4.3.5 no user here is postmaster yet"
    user = route("postmaster", aliases={}, known="postmaster".__eq__)
    assert [str(t.mailbox) for t in user.targets] == ["postmaster@here.test"]


@given(tables, addresses)
def test_r12_explaining_changes_nothing(table: dict[str, tuple[str, ...]], text: str) -> None:
    local, _, domain = text.partition("@")
    asked = Mailbox(local, domain or HERE)
    plain, told = router(table).route(asked), router(table).route(asked, explain=True)
    assert plain.steps == ()
    assert told.steps
    assert replace(told, steps=()) == plain


@given(st.text(max_size=20), st.text(max_size=20))
def test_r13_no_control_characters(member: str, path: str) -> None:
    table = {"team": (member, ":include:" + path, "alice")}
    for explain in (False, True):
        routed = router(table).route(Mailbox("team", HERE), explain)
        steps = (*routed.steps, *routed.left_out)
        texts = [t for s in steps for t in (s.subject, s.verdict, s.detail)]
        texts += [t.action for t in routed.targets] + [str(t.mailbox) for t in routed.targets]
        texts += [routed.outcome.reply.text] if routed.outcome else []
        for c in "".join(texts):
            assert c >= " " and not "\x7f" <= c <= "\x9f", texts


def test_steps_name_every_rule() -> None:
    routed = router().route(Mailbox("team+x", HERE), explain=True)
    assert [(s.subject, s.verdict) for s in routed.steps] == [
        ("channel lists", "no"),
        ("channel local", "yes"),
        ("alias team+x", "no"),
        ("alias team", "yes"),
        ("alias owner-team", "yes"),
        ("alias alice", "no"),
        ("user alice", "yes"),
        ("channel lists", "no"),
        ("channel local", "no"),
        ("channel net", "yes"),
    ]
    assert routed.steps[1].detail == "here.test ($local) has here.test"
    assert (
        routed.steps[9].detail == ".net.test (tables/net:4) has a.net.test, next hop hop.test:2526"
    )


def test_text() -> None:
    routed = router().route(Mailbox("x", "a.net.test"), explain=True)
    assert render_text(routed) == (
        "x@a.net.test\n"
        "  channel lists  no       none of its 1 rows has a.net.test\n"
        "  channel local  no       none of its 2 rows has a.net.test\n"
        "  channel net    yes      .net.test (tables/net:4) has a.net.test,"
        " next hop hop.test:2526\n"
        "-> x@a.net.test  channel=net  queue=net  host=a.net.test  next_hop=hop.test:2526  local=x"
    )
    assert render_text(route("part")) == (
        "part@here.test\n"
        "-> alice@here.test  channel=local  queue=local  local=alice  original=part@here.test\n"
        "-- left out: member no [2Jsuch: the address holds a control character\n"
        "-- left out: member x@nowhere: no channel knows this host"
    )
    assert render_text(route("nosuch")).endswith("-> refused: 550 5.1.1 no such user here")


def test_json() -> None:
    shown = json.loads(json.dumps(as_dict(router().route(Mailbox("team", HERE), explain=True))))
    assert shown["address"] == "team@here.test"
    assert shown["refusal"] is None
    assert shown["targets"][1] == {
        "mailbox": "x@a.net.test",
        "local": "x",
        "action": "",
        "original": "team@here.test",
        "channel": "net",
        "queue": "net",
        "host": "a.net.test",
        "next_hop": "hop.test:2526",
        "reverse_path": "owner-team@here.test",
    }
    assert shown["steps"][0]["subject"] == "channel lists"
    refused = as_dict(route("nosuch"))
    assert refused["refusal"] == {"code": 550, "status": "5.1.1", "text": "no such user here"}
    assert refused["targets"] == []


@pytest.mark.parametrize("local", ["team", "alice", "nosuch"])
def test_routing_asks_each_time(local: str) -> None:
    subject = router()
    assert subject.route(Mailbox(local, HERE)) == subject.route(Mailbox(local, HERE))
