"""What channel programs are told, from a configuration file to the options they read."""

import sys

import pytest

from mta.config.build import build
from mta.deliver.options import command, options

CONFIG = """\
hostname: mx.example.test
dns: {nameservers: ["127.0.0.1:5300"], trust_ad: "yes"}
listen:
  - {address: "192.0.2.1:25", service: mx}
  - {address: "[2001:db8::1]:25", service: mx}
  - {address: "0.0.0.0:25", service: mx}
  - {address: "192.0.2.2:587", service: submission}
channels:
  - {name: local, program: local, domains: $local}
  - {name: hub, program: smtp, domains: hub.test, relay: ["a.test:26 weight=3", b.test], port: 27,
     tls: verify, ca: /etc/ca.pem, credentials: /etc/credentials, source: [192.0.2.7],
     mta_sts: "no", options: {timeout_scale: "0.5"}}
  - {name: boxes, program: lmtp, domains: boxes.test, relay: "unix:/run/lmtp", per_host: 4}
  - {name: own, program: /opt/own, domains: own.test, options: {word: x}}
  - {name: smtp, program: smtp, domains: "*"}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "mta.yaml"
    path.write_text(CONFIG)
    return build(str(path))[0]


def told(config, name):
    return options(config, config.channel(name))


def test_smtp_is_told_all_that_is_set(config):
    assert told(config, "hub") == (
        ("addresses", "yes"),
        ("port", "27"),
        ("per_host", "20"),
        ("relay", "a.test:26 weight=3"),
        ("relay", "b.test"),
        ("nameserver", "127.0.0.1:5300"),
        ("trust_ad", "yes"),
        ("tls", "verify"),
        ("ca", "/etc/ca.pem"),
        ("credentials", "/etc/credentials"),
        ("source", "192.0.2.7"),
        ("mta_sts", "no"),
        ("timeout_scale", "0.5"),
    )


def test_smtp_is_told_where_we_take_mail_ourselves_at_its_port(config):
    assert told(config, "smtp") == (
        ("addresses", "yes"),
        ("port", "25"),
        ("per_host", "20"),
        ("nameserver", "127.0.0.1:5300"),
        ("trust_ad", "yes"),
        ("tls", "may"),
        ("mta_sts", "auto"),
        ("own_address", "192.0.2.1"),
        ("own_address", "2001:db8::1"),
    )


def test_lmtp(config):
    assert told(config, "boxes") == (
        ("addresses", "yes"),
        ("port", "24"),
        ("per_host", "4"),
        ("relay", "unix:/run/lmtp"),
        ("nameserver", "127.0.0.1:5300"),
        ("trust_ad", "yes"),
        ("tls", "may"),
    )


def test_a_program_of_others_is_told_its_own_options_alone(config):
    assert told(config, "own") == (("word", "x"),)


@pytest.mark.parametrize("name", ["smtp", "boxes", "own"])
def test_how_programs_are_started(config, name):
    program = config.channel(name).program
    ours = [sys.executable, "-P", "-m", f"mta.channels.{program}"]
    assert command(config.channel(name)) == ([program] if program.startswith("/") else ours)
