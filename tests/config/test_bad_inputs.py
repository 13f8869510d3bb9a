"""Ways of getting mta.yaml wrong, each with the exact place at which it is told."""

import pytest

from mta.config.build import build
from mta.errors import ConfigError

GOOD = "channels:\n- {name: a, program: local}\n"


def channel(rest: str) -> str:
    """A configuration whose third line begins the keys of one channel."""
    return f"channels:\n- name: a\n  {rest}\n"


BAD = [
    # what YAML itself refuses
    ("a: [1, 2\n", "2:1", "expected"),
    ("a: 'x\n", "2:1", "end of stream"),
    ("channels: a: b\n", "1:12", "mapping values are not allowed"),
    ("log:\n\tdir: x\n", "2:1", "a tab cannot indent YAML"),
    (GOOD + "---\n" + GOOD, "3:1", "a second document"),
    (GOOD + "hostname: *x\n", "3:11", "undefined alias"),
    (GOOD + "hostname: \x07\n", "3:11", "control character U+0007"),
    (GOOD + "# \u2028\n", "3:3", "control character U+2028"),
    (GOOD + 'hostname: "a\\0b"\n', "3:11", "control character U+0000"),
    (GOOD + 'spool: "\\uD800"\n', "3:8", "surrogate"),
    (b"channels: \xff\n", "1:11", "octet 0xff is not UTF-8"),
    (b"# \xc3\xa9\n\xc3\xa9 \xe9\n", "2:3", "octet 0xe9 is not UTF-8"),
    # YAML's powers that mean nothing here
    (GOOD + "hostname: !!str mx.test\nspool: !!int 3\n", "4:8", "the tag !!int"),
    (GOOD + "hostname: !x mx.test\n", "3:11", "the tag !x"),
    (GOOD + "log: {<<: {dir: x}}\n", "3:7", "merge keys"),
    (GOOD + "? [a]\n: b\n", "3:3", "a key must be a plain word"),
    (GOOD + "spool: a\nrun: x\nspool: b\n", "5:1", "'spool' is here twice, first in line 3"),
    (GOOD + 'log: {dir: a, "dir": b}\n', "3:15", "'dir' is here twice"),
    (GOOD + "spool: &a [*a]\n", "3:8", "nested too deep"),
    # the wrong shape
    ("- a\n", "1:1", "mta.yaml must be a mapping, not a list"),
    ("just text\n", "1:1", "mta.yaml must be a mapping, not one value"),
    ("", "1:1", "needs the key 'channels'"),
    ("channels:\n", "1:10", "channels has no value"),
    ("channels: []\n", "1:11", "channels must name at least 1"),
    ("channels: {name: a}\n", "1:11", "channels must be a list, not a mapping"),
    ("channels: [a]\n", "1:12", "an item of channels must be a mapping, not one value"),
    (GOOD + "spool: ~\n", "3:8", "spool has no value"),
    (GOOD + "spool: [a]\n", "3:8", "spool must be one value, not a list"),
    (GOOD + "daemons: smtpd\n", "3:10", "daemons must be a list, not one value"),
    (GOOD + "daemons: [{smtpd: x}]\n", "3:11", "must be one value, not a mapping"),
    (GOOD + "log: postfix\n", "3:6", "log must be a mapping, not one value"),
    # unknown keys
    (GOOD + "hostnam: x\n", "3:1", "unknown key 'hostnam' in mta.yaml; is it 'hostname'?"),
    (GOOD + "zzz: x\n", "3:1", "unknown key 'zzz' in mta.yaml"),
    (GOOD + "limits: {mesage_size: 1}\n", "3:10", "is it 'message_size'?"),
    (channel("program: local\n  dead_tll: 5m"), "4:3", "is it 'dead_ttl'?"),
    # keys of another program
    (channel("program: local\n  relay: x.test"), "4:3", "'relay' does not belong to program local"),
    (channel("program: smtp\n  command: [/bin/x]"), "4:3", "does not belong to program smtp"),
    (channel("program: /bin/x\n  port: 26"), "4:3", "does not belong to a program given by its p"),
    (channel("program: pipe"), "2:3", "program pipe needs the key 'command'"),
    (channel("program: list"), "2:3", "program list needs the key 'members'"),
    (channel("queue: b"), "2:3", "needs the key 'program'"),
    ("channels:\n- program: local\n", "2:3", "needs the key 'name'"),
    # words
    (channel("program: lmtp"), "2:3", "program lmtp needs the key 'relay'"),
    (channel("program: delay"), "3:12", "'delay' is not available yet"),
    (channel("program: uucp"), "3:12", "there are smtp, lmtp, local, pipe, list"),
    (channel("program: bin/x"), "3:12", "must be an absolute path"),
    ("channels:\n- {name: A, program: local}\n", "2:10", "is not a name"),
    ("channels:\n- {name: ../x, program: local}\n", "2:10", "is not a name"),
    (channel("program: local\n  queue: -q"), "4:10", "is not a name"),
    (channel("program: smtp\n  port: 0"), "4:9", "must lie between 1 and 65535"),
    (channel("program: smtp\n  port: 0640"), "4:9", "plain decimal digits"),
    (channel('program: smtp\n  port: "25"'), "4:9", "port is a number: write it without quotes"),
    (channel("program: smtp\n  port: 0x19"), "4:9", "plain decimal digits"),
    (channel("program: smtp\n  concurrency: 1_000"), "4:16", "plain decimal digits"),
    (channel("program: smtp\n  concurrency: 10:30"), "4:16", "plain decimal digits"),
    (channel("program: smtp\n  concurrency: -1"), "4:16", "plain decimal digits"),
    (channel("program: smtp\n  per_host: yes"), "4:13", "plain decimal digits"),
    (channel("program: smtp\n  dead_ttl: 15"), "4:13", "is not a time"),
    (channel("program: smtp\n  dead_ttl: 15 m"), "4:13", "is not a time"),
    (channel("program: smtp\n  dead_ttl: 10:30"), "4:13", "is not a time"),
    (channel("program: smtp\n  fail_after: 0"), "4:15", "must be more than 0"),
    (channel("program: smtp\n  retry: {factor: 1e1}"), "4:19", "plain decimal form"),
    (channel("program: smtp\n  retry: {factor: 0.5}"), "4:19", "must lie between 1 and 1000"),
    (channel("program: smtp\n  retry: {first: 5h}"), "4:18", "'first' is longer than 'max'"),
    (channel("program: smtp\n  domains: [a b]"), "4:13", "is not a host name"),
    (channel("program: smtp\n  domains: '*.test'"), "4:12", "is not a pattern"),
    (channel("program: smtp\n  domains: $locl"), "4:12", "is not a pattern"),
    (channel("program: smtp\n  domains: [a.test, '[1.2.3]']"), "4:21", "address literal"),
    (channel("program: smtp\n  relay: a.test:smtp"), "4:10", "has no good port"),
    (channel("program: smtp\n  relay: '[::1'"), "4:10", "has no good port"),
    (channel("program: smtp\n  relay: '::1'"), "4:10", "has no good port"),
    (channel("program: pipe\n  command: []"), "4:12", "command must name at least 1"),
    (channel("program: pipe\n  command: [cat]"), "4:13", "must be a path"),
    (channel("program: list\n  members: lists/x"), "4:12", "must hold {list}"),
    (
        channel("program: list\n  members: '{list}{x}'"),
        "4:12",
        "{list} and {domain} and no other braces",
    ),
    (channel("program: local\n  options: {'a b': c}"), "4:13", "is not an option name"),
    (channel("program: local\n  options: {a: {b: c}}"), "4:16", "must be a list, not a mapping"),
    (channel("program: local\n  table: nowhere"), "4:10", "No such file or directory"),
    (channel("program: local\n  table: ."), "4:10", "Is a directory"),
    (GOOD + "- {name: a, program: local}\n", "3:10", "channel 'a' is here twice, first in line 2"),
    (GOOD + "hostname: 192.0.2.1\n", "3:11", "an address is written [192.0.2.1]"),
    (GOOD + "hostname: -x.test\n", "3:11", "is not a host name"),
    (GOOD + "spool: postgresql://x/y\n", "3:8", "is not a directory"),
    (GOOD + "limits: {message_size: 10MB}\n", "3:24", "is not a size"),
    (GOOD + "limits: {message_size: 0}\n", "3:24", "must be more than 0"),
    (GOOD + "load: {refuse: .5}\n", "3:16", "plain decimal form"),
    (GOOD + "load: {refuse: .inf}\n", "3:16", "plain decimal form"),
    (GOOD + "log: {formats: [postfix, exim]}\n", "3:26", "'exim' is not available yet"),
    (GOOD + "log: {formats: [syslog]}\n", "3:17", "there are postfix, json"),
    (GOOD + "local: {users: [alice, Bob]}\n", "3:24", "is not a name"),
    (GOOD + "local: {users: [bob, bob]}\n", "3:22", "user 'bob' is here twice"),
    (GOOD + "local: {users: []}\n", "3:16", "users must name at least 1"),
    (GOOD + "local: {users: /dev/null}\n", "3:16", "it is not a regular file"),
    (GOOD + "local: {users: nowhere}\n", "3:16", "No such file or directory"),
    (GOOD + "local: {mailbox: mail/{user}}\n", "3:23", "a value with braces needs quotes"),
    (GOOD + "local: {mailbox: 'mail/{user}'}\n", "3:18", "is not a mailbox"),
    (GOOD + "local: {mailbox: 'mbox:/var/mail'}\n", "3:18", "must hold {user}"),
    (GOOD + "local: {aliases: nowhere}\n", "3:18", "No such file or directory"),
    (GOOD + "listen:\n- {address: '127.0.0.1', service: mx}\n", "4:13", "needs a port"),
    (GOOD + "listen:\n- {address: 'localhost:25', service: mx}\n", "4:13", "not an IP address"),
    (GOOD + "listen:\n- {address: '127.0.0.1:25', service: smtp}\n", "4:38", "there are mx"),
    (GOOD + "listen:\n- {address: 'unix:', service: mx}\n", "4:13", "names no path"),
    (GOOD + "listen:\n- {service: mx}\n", "4:3", "needs the key 'address'"),
    (GOOD + "listen:\n- {address: '[::1]:25', service: mx, proxy: maybe}\n", "4:45", "neither yes"),
    (GOOD + "tls: {certificate: [a, b], key: c}\n", "3:33", "2 certificates, but 1 keys"),
    (GOOD + "tls: {minimum: 1.1}\n", "3:16", "there are 1.2, 1.3"),
    (GOOD + "auth: {mechanisms: [CRAM-MD5]}\n", "3:21", "is no SASL mechanism"),
    (GOOD + "auth: {passwords: a, dovecot: b}\n", "3:31", "cannot both be given"),
    (GOOD + "limits: {session_time: 0}\n", "3:24", "must be more than 0"),
    (channel("program: smtp, relay: h weight=0".replace(", ", "\n  ")), "4:10", "between 1"),
    (channel("program: smtp, tls: must".replace(", ", "\n  ")), "4:8", "is no TLS level"),
    (channel("program: local, tls: off".replace(", ", "\n  ")), "4:3", "but to smtp and lmtp"),
    (channel("program: lmtp, relay: 'unix:x y'".replace(", ", "\n  ")), "4:10", "not a relay"),
    (GOOD + "relay_from: [192.0.2.1/24]\n", "3:14", "write 192.0.2.0/24"),
    (GOOD + "relay_from: [localhost]\n", "3:14", "is not a network"),
    (GOOD + "relay_domains: ['*']\n", "3:17", "is not a pattern"),
    (GOOD + "dns: {nameservers: [ns.test]}\n", "3:21", "is not an IP address"),
]


@pytest.mark.parametrize(("text", "place", "reason"), BAD)
def test_each_mistake_is_told_at_its_place(tmp_path, text, place, reason):
    path = tmp_path / "mta.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        build(str(path))
    told = str(caught.value).split("\n")
    at_place = [line for line in told if line.startswith(f"{path}:{place}: ")]
    assert any(reason in line for line in at_place), told
    assert len(told) == 1, told


@pytest.mark.parametrize("what", ["missing", "directory", "fifo", "large", "forbidden folder"])
def test_what_is_no_readable_file_is_told_without_a_place(tmp_path, what):
    import os

    path = tmp_path / "mta.yaml"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "large":
        path.write_bytes(b"#" * (1 << 20) + b"\n")
    elif what == "forbidden folder":
        path = tmp_path / "file" / "mta.yaml"
        (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        build(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "mta.yaml"
    path.write_text("limits: {recipients: 0}\nhostname: '-'\nchannels:\n- {name: A}\nzzz: 1\n")
    with pytest.raises(ConfigError) as caught:
        build(str(path))
    places = [
        line.removeprefix(f"{path}:").split(": ")[0] for line in str(caught.value).split("\n")
    ]
    assert places == ["1:22", "2:11", "4:3", "4:10", "5:1"]


def test_mistakes_in_named_files_are_told_in_those_files(tmp_path):
    (tmp_path / "mta.yaml").write_text(
        "local: {users: users, aliases: aliases}\n"
        "channels:\n- {name: a, program: smtp, table: table}\n- {name: b, program: lo}\n"
    )
    (tmp_path / "users").write_text("alice\nbob bill\n")
    (tmp_path / "aliases").write_text("root: alice\nROOT: bob\n")
    (tmp_path / "table").write_text("a.test\n-b.test\nc.test d.test:x\ne.test f.test g\n")
    (tmp_path / "mta.yaml").write_text((tmp_path / "mta.yaml").read_text().replace("lo}", "local}"))
    with pytest.raises(ConfigError) as caught:
        build(str(tmp_path / "mta.yaml"))
    places = [
        line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in str(caught.value).split("\n")
    ]
    assert places == ["aliases:2:1", "users:2:5", "table:2:1", "table:3:8", "table:4:8"]
