import shutil
from pathlib import Path

import pytest

from mta.config.build import build
from mta.config.model import (
    Auth,
    Author,
    ByClass,
    Daemon,
    Dsn,
    HostRule,
    Limits,
    Listener,
    LoadLimits,
    PressureLimits,
    Retry,
    Smtpd,
    Tls,
)
from mta.errors import ConfigError

ETC = Path(__file__).parents[2] / "etc"


@pytest.fixture
def sample(tmp_path):
    shutil.copytree(ETC, tmp_path / "etc")
    return tmp_path / "etc"


def made(folder, text):
    (folder / "mta.yaml").write_text(text)
    return build(str(folder / "mta.yaml"))[0]


def test_the_sample_says_what_its_comments_say(sample):
    config, signed = build(str(sample / "mta.yaml"))
    assert config.hostname == "mx.example.test"
    assert (config.spool, config.runtime) == (f"{sample}/spool", f"{sample}/run")
    assert (config.log.dir, config.log.formats) == (f"{sample}/log", ("postfix", "json"))
    assert config.local.users == ("alice", "bob")
    assert (config.local.mailbox_kind, config.local.mailbox) == (
        "maildir",
        f"{sample}/mail/{{user}}",
    )
    assert config.listen == (Listener("127.0.0.1:2525", "mx", False),)
    assert config.limits == Limits(
        10 << 20, 1000, 1 << 20, 100, 12 << 10, 20, 300.0, 3600.0, 100, 20_000, 0, 0, 0, 0, 0, 60
    )
    assert config.smtpd == Smtpd(0, "", (), (), True)
    assert config.tls == Tls((), (), "1.2")
    assert config.auth == Auth("", "", ("PLAIN", "LOGIN", "SCRAM-SHA-256"))
    assert config.trust_ad == "auto"
    assert config.load == LoadLimits(8.0, 12.0, 6.0, 600_000, PressureLimits(0.0, 0.0, 0.0))
    assert [c.name for c in config.channels] == ["local", "brlnet", "ucl", "ucl-dial", "smtp"]
    assert config.queues() == ("local", "brlnet", "ucl", "smtp")
    assert config.channel("brlnet").dead_ttl == 900.0
    assert config.channel("ucl-dial").command == ("/usr/bin/cat",)
    smtp = config.channel("smtp")
    assert (smtp.port, smtp.concurrency, smtp.per_host, smtp.max_recipients) == (2626, 50, 20, 100)
    assert smtp.silent == 200
    assert (smtp.retry, smtp.warn_after, smtp.fail_after) == (
        Retry(300.0, 2.0, 14400.0),
        ByClass(14400.0, 14400.0, 14400.0),
        ByClass(432000.0, 432000.0, 432000.0),
    )
    text = (sample / "mta.yaml").read_text().split("\n")
    assert len(config.daemons) == 6
    assert all(text[d.line - 1].strip() == f"- {d.command}" for d in config.daemons)
    assert [row[1:] for row in config.tables[0][1]] == [
        ("vax.brl.test", ""),
        (".amsaa.test", "127.0.0.1:2626"),
    ]
    assert ("staff", ("alice", "bob")) in [alias[:2] for alias in config.aliases]
    assert [path for path, _ in signed] == [
        f"{sample}/mta.yaml", f"{sample}/aliases", f"{sample}/tables/brlnet"
    ]  # fmt: skip


def test_a_short_file_has_sensible_defaults(tmp_path):
    config = made(
        tmp_path,
        "hostname: a.test\nchannels: [{name: x, program: smtp}, {name: l, program: local}]\n",
    )
    assert (config.spool, config.runtime, config.log.dir) == (
        "/var/spool/posthouse",
        "/run/posthouse",
        "/var/log/posthouse",
    )
    assert (config.local.domains, config.local.users, config.local.aliases) == (
        ("a.test",),
        None,
        "",
    )
    assert (config.local.mailbox_kind, config.local.mailbox) == ("mbox", "/var/mail/{user}")
    assert (config.relay_from, config.relay_domains, config.nameservers, config.listen) == (
        (),
        (),
        (),
        (),
    )
    assert config.load == LoadLimits(0.0, 0.0, 0.0, 600_000, PressureLimits(0.0, 0.0, 0.0))
    x, local = config.channels
    assert (x.queue, x.port, x.concurrency, x.per_host, x.max_recipients) == ("x", 25, 50, 20, 100)
    assert (x.dead_ttl, x.warn_after, x.fail_after, x.retry) == (
        7200.0,
        ByClass(14400.0, 14400.0, 14400.0),
        ByClass(432000.0, 432000.0, 432000.0),
        Retry(300.0, 2.0, 14400.0),
    )
    assert (local.concurrency, local.per_host, local.max_recipients) == (4, 4, 1000)
    assert local.silent == 0


def test_programs_have_their_own_defaults(tmp_path):
    config = made(
        tmp_path,
        "channels:\n- {name: p, program: pipe, command: [bin/x, -v]}\n"
        "- {name: l, program: list, members: 'lists/{list}'}\n"
        "- {name: o, program: /opt/x, options: {a: [b, c]}}\n",
    )
    pipe, lists, other = config.channels
    assert (pipe.command, pipe.timeout, pipe.concurrency, pipe.max_recipients) == (
        (f"{tmp_path}/bin/x", "-v"),
        300.0,
        4,
        1,
    )
    assert (lists.members, lists.owner, lists.concurrency) == (
        f"{tmp_path}/lists/{{list}}",
        "postmaster",
        2,
    )
    assert (other.program, other.options) == ("/opt/x", (("a", "b"), ("a", "c")))


def test_the_hostname_defaults_to_a_full_name(tmp_path, monkeypatch):
    import socket

    text = "channels: [{name: l, program: local}]\n"
    for host, full, expected in [
        ("mx.Example.test", "", "mx.example.test"),
        ("mx", "mx.example.test", "mx.example.test"),
        ("mx", "localhost", "mx.localdomain"),
        ("bad name", "bad name", "localhost.localdomain"),
    ]:
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(socket, "getfqdn", lambda name, full=full: full)
        assert made(tmp_path, text).hostname == expected


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ("system", None),
        ("[a, b]", ("a", "b")),
        ("people", ("alice", "bob")),
        ("./system", ("eve",)),
    ],
)
def test_users_are_a_list_the_system_or_a_file(tmp_path, users, expected):
    (tmp_path / "people").write_text("alice\nbob # and no more\n")
    (tmp_path / "system").write_text("eve\n")
    config = made(tmp_path, f"local: {{users: {users}}}\nchannels: [{{name: l, program: local}}]\n")
    assert config.local.users == expected


def test_paths_are_made_absolute_but_keep_their_dots_above(tmp_path):
    config = made(
        tmp_path,
        "spool: .//a/./b/\nruntime: ../r\nlog: {dir: /x//y/}\n"
        "listen: [{address: 'unix:run/x', service: lmtp}]\n"
        "channels: [{name: l, program: local}]\n",
    )
    assert (config.spool, config.runtime, config.log.dir) == (
        f"{tmp_path}/a/b",
        f"{tmp_path}/../r",
        "/x/y",
    )
    assert config.listen[0].address == f"unix:{tmp_path}/run/x"


def test_a_table_of_two_channels_is_read_once(tmp_path):
    (tmp_path / "t").write_text("a.test\n")
    config = made(
        tmp_path,
        "channels:\n- {name: a, program: smtp, table: t}\n"
        "- {name: b, program: smtp, queue: a, table: ./t}\n",
    )
    assert config.tables == ((f"{tmp_path}/t", ((1, "a.test", ""),)),)


def test_daemons_keep_their_lines(tmp_path):
    config = made(
        tmp_path, "channels: [{name: l, program: local}]\ndaemons:\n\n- smtpd\n- 'deliver -b'\n"
    )
    assert config.daemons == (Daemon("smtpd", 4), Daemon("deliver -b", 5))


def test_an_address_is_listened_on_once(tmp_path):
    row = "{address: '127.0.0.1:25', service: mx}"
    with pytest.raises(ConfigError, match=r":1:60: the address '127.0.0.1:25' is here twice"):
        made(tmp_path, f"listen: [{row}, {row}]\nchannels: [{{name: l, program: local}}]\n")


def test_the_first_retry_may_be_the_longest(tmp_path):
    row = "{name: l, program: local, retry: {first: 5m, max: 5m}}"
    assert made(tmp_path, f"channels: [{row}]\n").channels[0].retry == Retry(300.0, 2.0, 300.0)


@pytest.mark.parametrize(
    ("typed", "retry"),
    [
        ("[5m, 10m, 1h]", Retry(300.0, 2.0, 14400.0, steps=(300.0, 600.0, 3600.0))),
        ("{steps: [1m], jitter: 0}", Retry(300.0, 2.0, 14400.0, 0.0, steps=(60.0,))),
        (
            "{min_age: 27m, max_age: 4h, greylist: 0}",
            Retry(300.0, 2.0, 14400.0, 0.1, 0.0, 1620.0, 14400.0),
        ),
    ],
)
def test_retry_is_a_list_or_a_mapping(tmp_path, typed, retry):
    row = f"{{name: l, program: local, retry: {typed}}}"
    assert made(tmp_path, f"channels: [{row}]\n").channels[0].retry == retry


def test_times_by_class(tmp_path):
    row = "{name: l, program: local, fail_after: {normal: 1d, bulk: 2d}, warn_after: {urgent: 1h}}"
    local = made(tmp_path, f"channels: [{row}]\n").channels[0]
    assert local.fail_after == ByClass(86400.0, 86400.0, 172800.0)
    assert local.warn_after == ByClass(3600.0, 14400.0, 14400.0)
    assert [local.fail_after.of(word) for word in ("u", "normal", "bulk", "")] == [
        *(86400.0, 86400.0, 172800.0, 86400.0)
    ]


def test_hosts_have_rules_of_their_own(tmp_path):
    rows = "[{match: .slow.test, retry: [1h], dead_ttl: 15m}, {match: [a.test, b.test], channel: l,"
    text = f"channels: [{{name: l, program: local}}]\nhosts: {rows} retry: {{max: 1d}}}}]\n"
    assert made(tmp_path, text).hosts == (
        HostRule((".slow.test",), "", (("steps", (3600.0,)),), 900.0, None),
        HostRule(("a.test", "b.test"), "l", (("max", 86400.0),), None, None),
    )
    with pytest.raises(ConfigError, match=r":2:\d+: there is no channel 'x'"):
        made(tmp_path, text.replace("channel: l", "channel: x"))


def test_what_a_listener_and_its_clients_need(tmp_path):
    config = made(
        tmp_path,
        "hostname: a.test\n"
        "listen: [{address: '0.0.0.0:465', service: submissions, proxy: yes}]\n"
        "smtpd: {workers: 3, user: posthouse, proxy_from: 192.0.2.1, xclient_from: ['::1'],"
        " reverse_dns: no}\n"
        "tls: {certificate: c.pem, key: /etc/k.pem, minimum: 1.3}\n"
        "auth: {dovecot: run/auth, mechanisms: PLAIN}\n"
        "dns: {trust_ad: no}\n"
        "limits: {data_rate: 0, command_line: 4KiB}\n"
        "channels:\n"
        "- {name: l, program: lmtp, relay: 'unix:/run/dovecot/lmtp'}\n"
        "- {name: s, program: smtp, relay: [A.test weight=3, '[::1]:26'], tls: verify, ca: ca.pem,"
        " credentials: secret, source: [192.0.2.7, '2001:DB8::7'], mta_sts: no}\n",
    )
    assert config.listen == (Listener("0.0.0.0:465", "submissions", True),)
    assert config.smtpd == Smtpd(3, "posthouse", ("192.0.2.1/32",), ("::1/128",), False)
    assert config.tls == Tls((f"{tmp_path}/c.pem",), ("/etc/k.pem",), "1.3")
    assert config.auth == Auth("", f"{tmp_path}/run/auth", ("PLAIN",))
    assert (config.trust_ad, config.limits.data_rate, config.limits.command_line) == ("no", 0, 4096)
    lmtp, smtp = config.channels
    assert (lmtp.relay, lmtp.port, lmtp.concurrency) == (("unix:/run/dovecot/lmtp",), 24, 20)
    assert (smtp.relay, smtp.tls) == (("a.test weight=3", "[::1]:26"), "verify")
    assert (smtp.ca, smtp.credentials) == (f"{tmp_path}/ca.pem", f"{tmp_path}/secret")
    assert (smtp.source, smtp.mta_sts) == (("192.0.2.7", "2001:db8::7"), "no")


def test_order_and_shares(tmp_path):
    config = made(
        tmp_path,
        "queue_children: 50\n"
        "channels:\n"
        "- {name: l, program: local, runners: 0, nice: 5, jobs: 100, interval: 2m}\n"
        "- {name: s, program: smtp, order: host, fair_authors: no, bulk_delay: 1h,"
        " max_share: 0.25, rate: 100/1m}\n",
    )
    local, smtp = config.channels
    assert config.queue_children == 50
    assert (local.runners, local.nice, local.jobs, local.interval) == (0, 5, 100, 120.0)
    assert (local.order, local.fair_authors, local.bulk_delay) == ("arrival", True, 14400.0)
    assert (local.max_share, local.rate, smtp.runners, smtp.interval) == (0.5, None, None, 0.0)
    assert (smtp.order, smtp.fair_authors, smtp.bulk_delay) == ("host", False, 3600.0)
    assert (smtp.max_share, smtp.rate) == (0.25, (100, 60.0))


def test_a_rate_needs_a_number_and_a_time(tmp_path):
    for rate in ("100", "0/1m", "5/m", "'1/0s'"):
        with pytest.raises(ConfigError, match=r":1:\d+: .*is no rate: write how many in how long"):
            made(tmp_path, f"channels: [{{name: s, program: smtp, rate: {rate}}}]\n")


SITE = "hostname: mx.test\nchannels: [{name: a, program: local, domains: $local}]\n"


def test_senders_and_the_words_of_dsns(tmp_path):
    (tmp_path / "words.txt").write_text("[failed]\nNein, $to.\n")
    config = made(
        tmp_path,
        SITE + "dsn: {template: words.txt, gather: 0}\n"
        "senders: [{match: News-*@x.test, bounce: discard, class: bulk},"
        " {match: ['@y.test', '<>']}]\n",
    )
    assert config.dsn == Dsn((("failed", "Nein, $to."),), 0.0)
    assert config.authors == (
        Author(("news-*@x.test",), "discard", "bulk"),
        Author(("@y.test", "<>"), "return"),
    )
    assert made(tmp_path, SITE).dsn == Dsn((), 5.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dsn: {template: words.txt}\n", "words.txt:2:1: no place is called $nobody here"),
        ("dsn: {template: none.txt}\n", "mta.yaml:3:17: the template"),
        ("senders: [{match: x}]\n", "is none of news@example.org"),
        ("senders: [{match: '@'}]\n", "is none of news@example.org"),
        ("senders: [{match: [a@b, A@b]}]\n", "is here twice"),
        ("senders: [{match: a@b, bounce: drop}]\n", "there are return, discard, postmaster"),
    ],
)
def test_wrong_senders_and_words_are_told_with_their_place(tmp_path, text, says):
    (tmp_path / "words.txt").write_text("[failed]\n$nobody\n")
    with pytest.raises(ConfigError) as caught:
        made(tmp_path, SITE + text)
    assert says in str(caught.value)
