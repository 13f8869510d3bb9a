"""The listener's states: which command may come when, as one literal table.

A state is named for what has been heard.  A command out of its turn gets the
reply of the table and changes nothing; what a command in its turn does is
server.py's.

Source   Sequence of commands: RFC 5321 s4.1.4.  AUTH and STARTTLS have no place in
         a transaction: RFC 4954 s4, RFC 3207 s4.2.  BDAT: RFC 3030 s2 and s3.
         LMTP's DATA without recipients: RFC 2033 s4.2.
"""

from __future__ import annotations

from mta.types import Reply

__all__ = [
    "ALLOWED",
    "AUTH",
    "BDAT",
    "CHUNK",
    "CLOSED",
    "COMMAND_STATES",
    "CONNECTED",
    "DATA",
    "MAIL",
    "RCPT",
    "READY",
    "SEQUENCE",
    "START",
    "STATES",
    "TLS",
    "VERBS",
    "State",
]

State = str

CONNECTED: State = "connected"  # the greeting is not said yet
START: State = "start"  # no EHLO yet, or none since STARTTLS
READY: State = "ready"  # no transaction is open
MAIL: State = "mail"  # MAIL is accepted, and no recipient yet
RCPT: State = "rcpt"  # at least one recipient is accepted
DATA: State = "data"  # 354 is said; octets are the body
BDAT: State = "bdat"  # between two chunks
CHUNK: State = "chunk"  # octets are a chunk
AUTH: State = "auth"  # the next line answers a challenge, or will
TLS: State = "tls"  # 220 is said to STARTTLS; secure() is due
CLOSED: State = "closed"

STATES = (CONNECTED, START, READY, MAIL, RCPT, DATA, BDAT, CHUNK, AUTH, TLS, CLOSED)
COMMAND_STATES = (START, READY, MAIL, RCPT, BDAT)  # where lines are commands

ALLOWED = None
_HELLO = Reply(503, "5.5.1", "greet first, with EHLO, HELO or, in LMTP, LHLO")
_OPEN = Reply(503, "5.5.1", "not within a transaction")
_NO_MAIL = Reply(503, "5.5.1", "MAIL comes first")
_NO_RCPT = Reply(503, "5.5.1", "no valid recipients")
_CHUNKS = Reply(503, "5.5.1", "BDAT has begun: only BDAT, RSET or QUIT may follow")

# verb → what it meets in each of COMMAND_STATES, in their order.
_ROWS: dict[bytes, tuple[Reply | None, ...]] = {
    # verb         START     READY     MAIL      RCPT      BDAT
    b"EHLO": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"HELO": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"LHLO": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"MAIL": (_HELLO, ALLOWED, _OPEN, _OPEN, _CHUNKS),
    b"RCPT": (_HELLO, _NO_MAIL, ALLOWED, ALLOWED, _CHUNKS),
    b"DATA": (_HELLO, _NO_MAIL, _NO_RCPT, ALLOWED, _CHUNKS),
    b"BDAT": (_HELLO, _NO_MAIL, _NO_RCPT, ALLOWED, ALLOWED),
    b"RSET": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"NOOP": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"QUIT": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"VRFY": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"EXPN": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"HELP": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    b"STARTTLS": (_HELLO, ALLOWED, _OPEN, _OPEN, _CHUNKS),
    b"AUTH": (_HELLO, ALLOWED, _OPEN, _OPEN, _CHUNKS),
    b"ETRN": (_HELLO, ALLOWED, _OPEN, _OPEN, _CHUNKS),
    b"XCLIENT": (ALLOWED, ALLOWED, _OPEN, _OPEN, _CHUNKS),
}
VERBS = tuple(_ROWS)

# (state, verb) → ALLOWED, or the reply to a command out of its turn.
SEQUENCE: dict[tuple[State, bytes], Reply | None] = {
    (state, verb): met
    for verb, row in _ROWS.items()
    for state, met in zip(COMMAND_STATES, row, strict=True)
}
