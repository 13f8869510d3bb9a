"""States: what a session may do next, as one literal table.

A state is named for the reply that is due.  With PIPELINING the commands of a
transaction go out together, but their replies are due in the same order, so
one table serves both ways of sending.

Source   Sequence of commands: RFC 5321 s4.1.4 and s4.3.2.  EHLO, then HELO:
         s3.2 and s4.1.1.1.  STARTTLS: RFC 3207 s4.2.  AUTH: RFC 4954 s4.  BDAT:
         RFC 3030 s2.  LHLO: RFC 2033 s4.1.  Time limits: s4.5.3.2.1 to s4.5.3.2.6.
Units    LIMITS are seconds.
"""

from __future__ import annotations

__all__ = [
    "AUTH",
    "BANNER",
    "BDAT",
    "BODY",
    "CLOSED",
    "CONNECT",
    "DATA",
    "EHLO",
    "FINAL",
    "GREETED",
    "HELO",
    "LHLO",
    "LIMITS",
    "MAIL",
    "QUIT",
    "RCPT",
    "READY",
    "RSET",
    "STARTTLS",
    "STATES",
    "TLS",
    "TRANSITIONS",
    "State",
]

State = str

CONNECT: State = "connect"  # no octet has come or gone
BANNER: State = "banner"
EHLO: State = "ehlo"
HELO: State = "helo"
LHLO: State = "lhlo"
GREETED: State = "greeted"  # nothing is due; TLS, AUTH, or on to READY
STARTTLS: State = "starttls"
TLS: State = "tls"  # the handshake: nothing is due in clear
AUTH: State = "auth"
READY: State = "ready"  # nothing is due; a transaction may begin
MAIL: State = "mail"
RCPT: State = "rcpt"
DATA: State = "data"
BODY: State = "body"  # 354 has come; nothing is due until the final dot is sent
FINAL: State = "final"  # the final dot is sent, or the last octet that BDAT promised
BDAT: State = "bdat"  # as FINAL, but sent ahead of the replies before it
RSET: State = "rset"
QUIT: State = "quit"
CLOSED: State = "closed"

STATES = (
    CONNECT,
    BANNER,
    EHLO,
    HELO,
    LHLO,
    GREETED,
    STARTTLS,
    TLS,
    AUTH,
    READY,
    MAIL,
    RCPT,
    DATA,
    BODY,
    FINAL,
    BDAT,
    RSET,
    QUIT,
    CLOSED,
)

# (the reply that is due, its first digit) → what is due next.  A pair that is
# not here is a protocol error.  RCPT repeats until every recipient has its
# reply; so does FINAL with LMTP, for those that were accepted.  421 closes from
# any state, due or not (RFC 5321 s3.8).  With LMTP, LHLO stands for EHLO.
TRANSITIONS: dict[tuple[State, int], State] = {
    (BANNER, 2): EHLO,
    (BANNER, 4): CLOSED,
    (BANNER, 5): CLOSED,
    (EHLO, 2): GREETED,
    (EHLO, 4): CLOSED,
    (EHLO, 5): HELO,
    (HELO, 2): GREETED,
    (HELO, 4): CLOSED,
    (HELO, 5): CLOSED,
    (LHLO, 2): GREETED,
    (LHLO, 4): CLOSED,
    (LHLO, 5): CLOSED,
    (STARTTLS, 2): TLS,
    (STARTTLS, 4): GREETED,
    (STARTTLS, 5): GREETED,
    (AUTH, 2): GREETED,
    (AUTH, 3): AUTH,
    (AUTH, 4): GREETED,
    (AUTH, 5): GREETED,
    (MAIL, 2): RCPT,
    (MAIL, 4): RSET,
    (MAIL, 5): RSET,
    (RCPT, 2): DATA,
    (RCPT, 4): DATA,
    (RCPT, 5): DATA,
    (DATA, 3): BODY,
    (DATA, 4): RSET,
    (DATA, 5): RSET,
    (BODY, 4): CLOSED,  # refused while we send: an answer, but the session is out of step
    (BODY, 5): CLOSED,
    (FINAL, 2): READY,
    (FINAL, 4): READY,
    (FINAL, 5): READY,
    (BDAT, 2): READY,
    (BDAT, 4): RSET,  # the transaction may still be open, without a recipient
    (BDAT, 5): RSET,
    (RSET, 2): READY,
    (RSET, 4): CLOSED,
    (RSET, 5): CLOSED,
    (QUIT, 2): CLOSED,
    (QUIT, 4): CLOSED,
    (QUIT, 5): CLOSED,
}

# How long a client waits in each state.  READY is how long we keep an idle
# connection for the next message; GREETED and TLS are for all of it; BODY is for
# each block that the server takes.
LIMITS: dict[State, float] = {
    CONNECT: 30.0,
    BANNER: 300.0,
    EHLO: 300.0,
    HELO: 300.0,
    LHLO: 300.0,
    GREETED: 60.0,
    STARTTLS: 120.0,
    TLS: 120.0,
    AUTH: 180.0,
    READY: 5.0,
    MAIL: 300.0,
    RCPT: 300.0,
    DATA: 120.0,
    BODY: 180.0,
    FINAL: 600.0,
    BDAT: 600.0,
    RSET: 60.0,
    QUIT: 5.0,
    CLOSED: 5.0,
}
