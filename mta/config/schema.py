"""The shape of mta.yaml, as one literal tree: every key, its kind, its default, what it is for.

Validation (validate.py), the defaults, the JSON Schema that editors use and
the check of man/mta.yaml.5 all come from ``SCHEMA``; a key is added here and in
the manual page, and nowhere else but where its value is used.

Source   mta.yaml(5).
"""

from __future__ import annotations

from mta.config.channel_keys import CHANNEL, HOST_RULE
from mta.config.kinds import Key, ListOf, MapOf, OneOf

__all__ = ["SCHEMA"]

_SMTPD = MapOf(
    (
        Key("workers", "any-count", "Processes; 0 is one a CPU, up to 4.", "0"),
        Key("user", "name", "Who to become once the sockets are bound."),
        Key("proxy_from", ListOf("network", lone=True), "Proxies whose PROXY header counts.", ()),
        Key("xclient_from", ListOf("network", lone=True), "Clients that may say XCLIENT.", ()),
        Key("reverse_dns", "yes-no", "Look up the names of clients.", "yes"),
    )
)
_TLS = MapOf(
    (
        Key("certificate", ListOf("path", lone=True), "Files with a chain each, leaf first.", ()),
        Key("key", ListOf("path", lone=True), "The private key of each.", ()),
        Key("minimum", "tls-version", "The oldest version to speak.", "1.2"),
    )
)
_AUTH = MapOf(
    (
        Key("passwords", "path", "A file with a name and a hashed password a line."),
        Key("dovecot", "path", "The socket of a Dovecot that knows the passwords."),
        Key(
            "mechanisms",
            ListOf("mechanism", lone=True, least=1),
            "The SASL mechanisms to offer.",
            ("PLAIN", "LOGIN", "SCRAM-SHA-256"),
        ),
    )
)
_LIMITS = MapOf(
    (
        Key("message_size", "some-size", "The largest message.", "10MiB"),
        Key("recipients", "count", "The most recipients of a message.", "1000"),
        Key("header_size", "some-size", "The largest header.", "1MiB"),
        Key("hops", "count", "The most Received fields.", "100"),
        Key("command_line", "some-size", "The longest line of a command.", "12KiB"),
        Key("errors", "count", "Errors of a session before it is ended.", "20"),
        Key("command_time", "some-time", "How long a client may be silent.", "5m"),
        Key("session_time", "some-time", "How long a session may last.", "1h"),
        Key("data_rate", "any-count", "The slowest message, in octets a second; 0 is off.", "100"),
        Key("connections", "count", "Connections at a time.", "20000"),
        Key("connections_per_client", "any-count", "Of one client; 0 goes by what is free.", "0"),
        Key("connection_rate", "any-count", "New ones of a client in a minute; 0 is off.", "0"),
        Key("connection_throttle", "any-count", "New ones of all in a second; 0 is off.", "0"),
        Key("message_rate", "any-count", "Messages of a client in a minute; 0 is off.", "0"),
        Key("recipient_rate", "any-count", "Recipients of a client in a minute; 0 is off.", "0"),
        Key("auth_failures", "any-count", "Failed logins of a client in a minute; 0 is off.", "60"),
    )
)
_LOAD = MapOf(
    (
        Key("refuse", "load", "Refuse connections above this load; 0 is off.", "0"),
        Key("queue_only", "load", "Accept, but deliver only what is urgent above it.", "0"),
        Key("delay", "load", "Answer clients slowly, deliver less above it.", "0"),
        Key("queue_factor", "any-count", "How much priority outweighs the load.", "600000"),
        Key(
            "psi",
            MapOf(
                (
                    Key("refuse", "percent", "Refuse connections; 0 is off.", "0"),
                    Key("queue_only", "percent", "Deliver only what is urgent.", "0"),
                    Key("delay", "percent", "Answer slowly, deliver less.", "0"),
                )
            ),
            "Pressure (PSI), in per cent of ten seconds, at which to do less.",
        ),
    )
)

_DSN = MapOf(
    (
        Key("template", "path", "A file with a site's own words: see etc/dsn.txt."),
        Key("gather", "time", "How long reports of one message wait for each other.", "5s"),
    )
)
_AUTHORS = ListOf(
    MapOf(
        (
            Key(
                "match",
                ListOf("sender", lone=True, least=1),
                "Reverse-paths: addresses, @domain, @.suffix, <>; * is any text.",
                required=True,
            ),
            Key("bounce", "bounce", "What becomes of failure reports.", "return"),
            Key("class", "class", "The class of the mail; as its header says if left out."),
        )
    )
)

SCHEMA = MapOf(
    (
        Key("hostname", "host", "This machine's name in the mail world."),
        Key("spool", "directory", "The directory of the queues.", "/var/spool/posthouse"),
        Key("runtime", "path", "The directory of sockets and pid files.", "/run/posthouse"),
        Key(
            "log",
            MapOf(
                (
                    Key("dir", "path", "The directory of the logs.", "/var/log/posthouse"),
                    Key(
                        "formats",
                        ListOf("format", lone=True, least=1),
                        "The formats to write.",
                        ("postfix", "json"),
                    ),
                )
            ),
            "The logs.",
        ),
        Key(
            "local",
            MapOf(
                (
                    Key(
                        "domains",
                        ListOf("host", lone=True),
                        "The domains whose mail ends here; the hostname if left out.",
                    ),
                    Key(
                        "users",
                        OneOf("path", ListOf("name", least=1)),
                        "Who gets mail: a list, system, or a file with a user a line.",
                        "system",
                    ),
                    Key("mailbox", "mailbox", "A user's mailbox.", "mbox:/var/mail/{user}"),
                    Key("aliases", "path", "The alias file, in the classic format."),
                )
            ),
            "Mail for this machine's own users.",
        ),
        Key(
            "listen",
            ListOf(
                MapOf(
                    (
                        Key("address", "listener", "Where to listen.", required=True),
                        Key("service", "service", "What to serve there.", required=True),
                        Key("proxy", "yes-no", "Connections begin with a PROXY header.", "no"),
                    )
                )
            ),
            "Where smtpd listens.",
            (),
        ),
        Key("smtpd", _SMTPD, "How smtpd works."),
        Key("tls", _TLS, "The certificates of this machine."),
        Key("auth", _AUTH, "Who may log in to submit mail."),
        Key("relay_from", ListOf("network", lone=True), "Clients that may relay.", ()),
        Key(
            "relay_domains",
            ListOf("suffix-or-host", lone=True),
            "Domains that anyone may relay to.",
            (),
        ),
        Key(
            "dns",
            MapOf(
                (
                    Key(
                        "nameservers",
                        ListOf("nameserver", lone=True),
                        "Resolvers to ask; the system's if there are none.",
                        (),
                    ),
                    Key("trust_ad", "auto-yes-no", "Believe their word on DNSSEC.", "auto"),
                )
            ),
            "Name resolution.",
        ),
        Key("limits", _LIMITS, "What is accepted, and from each client."),
        Key(
            "load",
            _LOAD,
            "One-minute load averages at which to do less.",
        ),
        Key("queue_children", "any-count", "Jobs in flight of all delivers; 0 is no bound.", "0"),
        Key("dsn", _DSN, "Delivery status notifications."),
        Key("senders", _AUTHORS, "Reverse-paths whose mail is treated in a special way.", ()),
        Key(
            "channels",
            ListOf(CHANNEL, least=1),
            "The channel table: in order, the first that knows the host wins.",
            required=True,
        ),
        Key("hosts", ListOf(HOST_RULE), "What is different for some hosts.", ()),
        Key("daemons", ListOf("text"), "The commands that `mta up` starts.", ()),
    )
)
