import pytest

from mta.config.build import build
from mta.config.findings import Facts
from mta.config.lint_listen import RULES

MX = "{address: '127.0.0.1:25', service: mx}"
SUBMISSION = "{address: '127.0.0.1:587', service: submission}"
SUBMISSIONS = "{address: '127.0.0.1:465', service: submissions}"
TLS = "tls: {certificate: c, key: k}\n"
AUTH = "auth: {passwords: p}\n"


@pytest.fixture
def told(tmp_path):
    """A function that says what the rules find in a configuration, when ``there`` exist."""

    def run(text, there=("c", "k", "p")):
        path = tmp_path / "mta.yaml"
        path.write_text(f"hostname: a.test\nchannels: [{{name: l, program: local}}]\n{text}")
        config = build(str(path))[0]
        files = [f"{tmp_path}/{name}" for name in there]
        facts = Facts("ext4", 1, 2, lambda name: True, lambda path: "", files.__contains__)
        found = [finding for rule in RULES for finding in rule(config, facts)]
        return [(f.line, f.severity, f.text.replace(f"{tmp_path}/", "")) for f in found]

    return run


@pytest.mark.parametrize(
    ("text", "line", "severity", "said"),
    [
        ("daemons: [smtpd]\n", 3, "error", "smtpd has no address"),
        (f"listen: [{MX}]\ndaemons: [deliver -b]\n", None, "warning", "no daemon is smtpd"),
        (f"listen: [{SUBMISSIONS}]\nrelay_from: '::1'\n", None, "error", "needs TLS"),
        (f"listen: [{SUBMISSION}]\n", None, "warning", "nobody can submit at 127.0.0.1:587"),
        (f"listen: [{SUBMISSION}]\n" + AUTH, None, "warning", "nobody can submit"),
        (f"listen: [{SUBMISSION}]\nrelay_from: '::1'\n" + AUTH, None, "warning", "no certificate"),
        ("relay_from: [0.0.0.0/0]\n", None, "warning", "relay_from: 0.0.0.0/0 lets"),
        ("relay_from: ['2000::/3']\n", None, "warning", "2000::/3 lets"),
        (
            "listen: [{address: '[::1]:25', service: mx, proxy: yes}]\n",
            None,
            "error",
            "[::1]:25 wants a PROXY header",
        ),
    ],
)
def test_what_would_not_do_is_told(told, text, line, severity, said):
    ((at, kind, found),) = told(text)
    assert (at, kind) == (line, severity)
    assert said in found


def test_a_file_that_is_missing_is_told(told):
    assert told(TLS, there=("c",)) == [(None, "error", "tls: there is no file k")]
    assert told(AUTH, there=()) == [(None, "error", "auth: there is no file p")]


@pytest.mark.parametrize(
    "text",
    [
        f"listen: [{MX}]\ndaemons: [smtpd]\n",
        f"listen: [{SUBMISSION}, {SUBMISSIONS}]\n" + TLS + AUTH,
        f"listen: [{SUBMISSION}]\nrelay_from: [127.0.0.0/8, '::1', 'fd00::/16']\n",
        "listen: [{address: '[::1]:25', service: mx, proxy: yes}]\nsmtpd: {proxy_from: '::1'}\n",
    ],
)
def test_what_will_do_is_not_remarked(told, text):
    assert told(text) == []
