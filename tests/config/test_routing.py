import os

import pytest

from mta.config.build import build
from mta.config.routing import known_user, max_recipients, read_include, router
from mta.types import Mailbox

TEXT = """\
hostname: mx.a.test
local: {domains: [a.test, b.test], users: [alice, bob], aliases: sub/aliases}
channels:
- {name: local, program: local, domains: [$local, c.test]}
- {name: far, program: smtp, domains: z.test, table: t, max_recipients: 7}
- {name: rest, program: smtp, domains: "*"}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/aliases").write_text("Staff: alice, :include:more\npipes: |/bin/x\n")
    (tmp_path / "sub/more").write_text("bob, carol@z.test\n")
    (tmp_path / "t").write_text(".far.test relay.test:26\n")
    (tmp_path / "mta.yaml").write_text(TEXT)
    return build(str(tmp_path / "mta.yaml"))[0]


@pytest.mark.parametrize(
    ("address", "channel", "host", "next_hop"),
    [
        ("alice@a.test", "local", "", ""),
        ("alice@b.test", "local", "", ""),
        ("bob@c.test", "local", "", ""),
        ("x@z.test", "far", "z.test", ""),
        ("x@y.far.test", "far", "y.far.test", "relay.test:26"),
        ("x@far.test", "rest", "far.test", ""),
    ],
)
def test_the_first_channel_that_knows_the_host_has_it(config, address, channel, host, next_hop):
    routed = router(config).route(Mailbox(*address.split("@")))
    (target,) = routed.targets
    assert (target.channel, target.host, target.next_hop) == (channel, host, next_hop)


def test_aliases_and_include_files_are_followed(config):
    routed = router(config).route(Mailbox("staff", "a.test"))
    assert [str(t.mailbox) for t in routed.targets] == [
        "alice@a.test",
        "bob@a.test",
        "carol@z.test",
    ]
    (target,) = router(config).route(Mailbox("pipes", "a.test")).targets
    assert target.action == "|/bin/x"


def test_who_is_nobody_is_refused_and_postmaster_is_the_first_user(config):
    assert router(config).route(Mailbox("eve", "a.test")).outcome is not None
    (target,) = router(config).route(Mailbox("postmaster", "b.test")).targets
    assert target.mailbox.local == "alice"


def test_the_steps_say_where_a_row_is_written(config):
    steps = router(config).route(Mailbox("x", "y.far.test"), explain=True).steps
    assert f"({os.path.dirname(config.path)}/t:1)" in steps[-1].detail


def test_max_recipients_by_channel(config):
    assert max_recipients(config) == {"local": 1000, "far": 7, "rest": 100}


def test_system_accounts_are_asked_for_by_name(tmp_path):
    (tmp_path / "mta.yaml").write_text("channels: [{name: l, program: local}]\n")
    system = build(str(tmp_path / "mta.yaml"))[0]
    assert known_user(system, "root")
    assert not known_user(system, "no-such-user")
    assert not known_user(system, "nul\0")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: p.unlink(), "No such file"),
        (lambda p: (p.unlink(), p.mkdir()), "Is a directory"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "not a regular file"),
        (lambda p: p.chmod(0o664), "its group or others may write it"),
        (lambda p: p.chmod(0o646), "its group or others may write it"),
        (lambda p: p.write_bytes(b"x" * ((1 << 20) + 1)), "larger than 1048576 octets"),
        (lambda p: p.write_bytes(b"a\n\xff"), "more:2:1: octet 0xff is not UTF-8"),
    ],
)
def test_an_include_file_that_cannot_be_trusted_is_refused(config, tmp_path, spoil, reason):
    spoil(tmp_path / "sub/more")
    with pytest.raises(ValueError, match=reason):
        read_include(config, "more")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_include_file_of_another_user_is_refused(config, tmp_path):
    os.chown(tmp_path / "sub/more", 12345, -1)
    with pytest.raises(ValueError, match="belongs neither to root nor"):
        read_include(config, "more")
    os.chown(config.path, 12345, -1)
    assert read_include(config, str(tmp_path / "sub/more")) == "bob, carol@z.test\n"


def test_a_path_with_a_nul_is_refused(config):
    with pytest.raises(ValueError, match="null"):
        read_include(config, "a\0b")
