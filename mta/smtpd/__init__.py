"""smtpd: the listener.  SMTP, submission and LMTP in; messages into the journal."""
