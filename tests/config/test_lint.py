import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.build import build
from mta.config.findings import Facts, Finding
from mta.config.lint import RULES, _covered, check, file_system, gather, lint, spell

ETC = Path(__file__).parents[2] / "etc"
LOCAL = "- {name: local, program: local, domains: $local}\n"


def no_include(path):
    raise ValueError(f"{path}: none here")


def facts(system="ext4", spool=1, log=2, known=("alice", "root"), include=no_include, there=()):
    return Facts(system, spool, log, lambda name: name in known, include, there.__contains__)


@pytest.fixture
def told(tmp_path):
    """A function that says what lint finds in a configuration."""

    def run(channels, more="", given=None, aliases=None, deliver=None):
        text = f"hostname: a.test\nchannels:\n{channels}{more}"
        if aliases is not None:
            (tmp_path / "aliases").write_text(aliases)
            text += "local: {aliases: aliases, domains: [a.test]}\n"
        if deliver is not None:
            text += "daemons:\n" + "".join(f"- {d}\n" for d in deliver)
        (tmp_path / "mta.yaml").write_text(text)
        found = lint(build(str(tmp_path / "mta.yaml"))[0], given or facts())
        return [(f.line, f.severity, f.text.replace(f"{tmp_path}/", "")) for f in found]

    return run


def test_the_sample_has_nothing_to_remark(tmp_path):
    shutil.copytree(ETC, tmp_path / "etc")
    config = build(str(tmp_path / "etc/mta.yaml"))[0]
    assert lint(config, facts(known=("alice", "bob"))) == ()


def smtp(*rows):
    """The rows of channels with program: smtp, each given as its name and its keys."""
    return "".join(f"- {{program: smtp, name: {row}}}\n" for row in rows)


X = "- {name: x, program: smtp, domains: '*'}\n"


@pytest.mark.parametrize(
    ("deliver", "line", "text"),
    [
        (
            ["deliver -b -cx -t24"],
            6,
            "no deliver serves the queue 'x' without -t: mail older than 24 hours",
        ),
        (["deliver -t24 -b", "deliver -b -t 48 -c x"], 7, "mail older than 48 hours"),
        (["deliver -b -cx"], None, "no deliver serves the queue 'local'"),
        (["deliver -b -clocal"], None, "no deliver serves the queue 'x'"),
        (["deliver -b -c local,x 12345"], None, "no deliver serves the queue 'x'"),
        (["deliver -b -clocal", "deliver -cx"], None, "no deliver serves the queue 'x'"),
        (["deliver -b -t48 -o24", "deliver -b -o48"], 7, "waits from 0 to 48 hours"),
        (["deliver -b", "deliver -cx"], 7, "deliver makes one pass and ends"),
        (["deliver -b -o48"], 6, "mail in the queue 'x' waits from 0 to 48 hours of age"),
        (["deliver -b -o48", "deliver -b -t24"], 6, "waits from 24 to 48 hours"),
        (["/opt/bin/deliver -bw -cx,y"], 6, "deliver serves the channel 'y', which does not exist"),
        (["deliver -b --config /x -c y"], 6, "the channel 'y'"),
        (["'deliver -b \"'"], 6, "is no command"),
        (["delivre -b"], 6, "'delivre' is no daemon, and nothing starts it"),
        (["/usr/sbin/smtpd"], 6, "there are: deliver smtpd"),
    ],
)
def test_delivers_that_leave_mail_lying(told, deliver, line, text):
    found = told(LOCAL + X, deliver=deliver)
    assert any(f[0] == line and text in f[2] for f in found), found


@pytest.mark.parametrize(
    "deliver",
    [
        ["deliver -b"],
        ["deliver -bcx,local"],
        ["deliver -b -c local", "deliver -b -l15 -s -T300 -L log -V FTR -m300 -cx"],
        ["deliver -b -t24", "deliver -b -o24"],
        ["deliver -b -t24 -cx", "deliver -b -cx", "deliver -b -clocal"],
    ],
)
def test_delivers_that_serve_everything(told, deliver):
    assert told(LOCAL + X, deliver=deliver) == []


@pytest.mark.parametrize(
    ("load", "count"),
    [
        ("refuse: 8, queue_only: 12", 0),
        ("refuse: 12, queue_only: 8", 1),
        ("refuse: 8, queue_only: 8", 1),
        ("refuse: 8", 0),
        ("queue_only: 8", 0),
    ],
)
def test_refuse_belongs_below_queue_only(told, load, count):
    assert (
        len([f for f in told(LOCAL, f"load: {{{load}}}\n") if "is not below queue_only" in f[2]])
        == count
    )


@pytest.mark.parametrize(
    ("channels", "count"),
    [
        (smtp("a, domains: x.test", "b, queue: a"), 0),
        (
            smtp("a, domains: [x.test, y.test]", "b, queue: a, domains: [y.test, x.test]"),
            0,
        ),
        (
            smtp("a, domains: x.test", "b, queue: a, domains: y.test"),
            1,
        ),
        (
            smtp("a, table: t", "b, queue: a, table: t"),
            0,
        ),
        (
            smtp("a, table: t", "b, queue: a, table: u"),
            1,
        ),
    ],
)
def test_channels_on_one_queue_agree_on_their_table(told, tmp_path, channels, count):
    (tmp_path / "t").write_text("t.test\n")
    (tmp_path / "u").write_text("u.test\n")
    found = [f for f in told(LOCAL + channels) if "share the queue 'a'" in f[2]]
    assert len(found) == count


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        (
            smtp("a, domains: '*'", "b, domains: x.test"),
            ["b"],
        ),
        (
            smtp("a, domains: .test", "b, domains: [x.test, .y.test]"),
            ["b"],
        ),
        (
            smtp("a, domains: .test", "b, domains: [x.test, test]"),
            [],
        ),
        (
            smtp("a, domains: x.test", "b, domains: .x.test"),
            [],
        ),
        (
            smtp("a, table: t", "b, domains: t.test"),
            ["b"],
        ),
        (smtp("a, domains: u.test", "b, table: t"), []),
        (smtp("a"), ["a"]),
        (smtp("a, domains: x.test", "b, queue: a"), []),
        (
            smtp("a, domains: x.test", "b, queue: a, domains: x.test"),
            [],
        ),
        (
            smtp("z, domains: '*'", "a, domains: x.test", "b, queue: a"),
            ["a"],
        ),
        (smtp("a, domains: a.test"), ["a"]),
    ],
)
def test_a_channel_whose_hosts_are_all_taken(told, tmp_path, channels, names):
    (tmp_path / "t").write_text("t.test\nt2.test\n")
    found = [f[2].split("'")[1] for f in told(LOCAL + channels) if "never be reached" in f[2]]
    assert found == names


HOST = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)
PATTERN = HOST | HOST.map("".join).map(lambda h: "." + h) | st.just("*")


@given(PATTERN, st.sets(PATTERN, max_size=4), HOST)
def test_covered_patterns_are_taken_by_routing(pattern, taken, host):
    from mta.route.table import ChannelRow, ChannelTable, Pattern

    def table(patterns):
        return ChannelTable(
            [ChannelRow("x", "x", False, tuple(Pattern(p, "", "") for p in patterns))]
        )

    if _covered(pattern, taken) and table([pattern]).find(host) is not None:
        assert table(sorted(taken)).find(host) is not None


@pytest.mark.parametrize(
    ("given_facts", "text"),
    [
        (facts("nfs4"), "is on nfs4, a network file system"),
        (facts("tmpfs"), "is on tmpfs: mail in it is lost with the power"),
        (facts(spool=7, log=7), "are on one file system"),
    ],
)
def test_a_spool_in_a_bad_place(told, given_facts, text):
    assert any(text in f[2] for f in told(LOCAL, given=given_facts))


def test_a_warning_that_would_come_too_late(told):
    found = told("- {name: local, program: local, domains: $local, fail_after: 1h}\n")
    assert "warn_after is not below fail_after" in found[0][2]
    assert (
        told("- {name: local, program: local, domains: $local, fail_after: 1h, warn_after: 0}\n")
        == []
    )


def test_a_warning_of_one_class_that_would_come_too_late(told):
    row = "- {name: local, program: local, domains: $local, fail_after: {normal: 5d, urgent: 4h}}\n"
    assert "warn_after is not below fail_after" in told(row)[0][2]


@pytest.mark.parametrize(
    ("slow", "fault"),
    [
        ("", "names 'slow', which does not exist"),
        ("- {name: slow, program: smtp}\n", "has another queue: give it queue: fast"),
        ("- {name: slow, program: smtp, queue: fast, domains: x.test}\n", "domains of its own"),
        ("- {name: slow, program: smtp, queue: fast, demote_to: fast}\n", "demotes hosts itself"),
    ],
)
def test_a_slow_lane_that_would_not_do(told, slow, fault):
    fast = "- {name: fast, program: smtp, domains: '*', demote_to: slow}\n"
    found = told(f"- {{name: local, program: local, domains: $local}}\n{fast}{slow}")
    assert any(severity == "error" and fault in text for _, severity, text in found)


def test_a_slow_lane_needs_a_deliver(told):
    rows = (
        "- {name: local, program: local, domains: $local}\n"
        "- {name: fast, program: smtp, domains: '*', demote_to: slow}\n"
        "- {name: slow, program: smtp, queue: fast}\n"
    )
    found = told(rows, deliver=["deliver -b -c local,fast"])
    assert [(f[1], "no deliver serves it" in f[2]) for f in found] == [("error", True)]
    assert told(rows, deliver=["deliver -b -c local,fast", "deliver -b -c slow"]) == []
    assert told(rows, deliver=["deliver -b"]) == []


@pytest.mark.parametrize(
    ("channels", "severity"),
    [
        ("- {name: x, program: smtp, domains: '*'}\n", "warning"),
        ("- {name: x, program: smtp, domains: y.test}\n", "error"),
    ],
)
def test_a_local_domain_that_is_not_delivered_here(told, channels, severity):
    assert (None, severity) in [f[:2] for f in told(channels) if "the local domain a.test" in f[2]]


@pytest.mark.parametrize(
    ("aliases", "expected"),
    [
        ("postmaster: alice\n", []),
        (
            "postmaster: nobody\n",
            ["aliases:1: alias postmaster: member nobody@a.test: neither an alias nor a user"],
        ),
        (
            "a: alice, bob\nb: a\n",
            ["aliases:1: alias a: member bob@a.test: neither an alias nor a user"],
        ),
        (
            "b: a\na: alice, bob\n",
            ["aliases:2: alias a: member bob@a.test: neither an alias nor a user"],
        ),
        ("a: b\nb: c\nc: a\n", ["aliases:1: alias a: alias loop: a -> b -> c -> a"]),
        ("alice: alice, x@else.test\n- \n", None),
        ("l: :include:/x\n", ["aliases:1: alias l: include /x: /x: none here"]),
    ],
)
def test_aliases_that_lead_nowhere(told, aliases, expected):
    if expected is None:
        aliases, expected = aliases.removesuffix("- \n"), []
    found = told(LOCAL + X, aliases=aliases)
    assert [f[2] for f in found] == expected


def test_mail_for_postmaster_has_to_go_somewhere(told):
    found = told(LOCAL, given=facts(known=("alice",)))
    assert [f[2].split(":")[0] for f in found] == ["postmaster@a.test resolves to nobody"]


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:27 / /tmp rw - tmpfs tmpfs rw
31 22 0:28 / /srv/my\040mail rw master:1 shared:2 - nfs4 host:/x rw
32 22 0:29 / /srv rw - xfs /dev/x rw
33 30 0:30 / /tmp rw - overlay none rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var", "ext4"),
        ("/", "ext4"),
        ("/tmp", "overlay"),
        ("/tmpfoo", "ext4"),
        ("/srv/my mail/x", "nfs4"),
        ("/srv/m", "xfs"),
    ],
)
def test_the_file_system_of_a_path(path, kind):
    assert file_system(MOUNTS, path) == kind
    assert file_system("", path) == ""


def test_the_facts_are_gathered_where_nothing_exists_yet(tmp_path):
    (tmp_path / "mta.yaml").write_text("spool: a/b/c\nlog: {dir: d/e}\nchannels:\n" + LOCAL)
    config = build(str(tmp_path / "mta.yaml"))[0]
    gathered = gather(config)
    assert gathered.spool_device == gathered.log_device == tmp_path.stat().st_dev
    assert gathered.spool_system != ""
    assert gathered.known_user("root") and not gathered.known_user("no such user")
    assert any("one file system" in f.text for f in check(config))


def test_a_finding_is_one_line(tmp_path):
    (tmp_path / "mta.yaml").write_text("channels:\n" + LOCAL)
    config = build(str(tmp_path / "mta.yaml"))[0]
    assert spell(config, Finding(3, "error", "x")) == f"{tmp_path}/mta.yaml:3: error: x"
    assert spell(config, Finding(None, "warning", "x")) == f"{tmp_path}/mta.yaml: warning: x"
    assert len(RULES) == len(set(RULES))
