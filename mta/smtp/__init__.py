"""Sans-IO SMTP (RFC 5321): bytes in, events out; commands in, bytes out.  Nothing here does I/O."""
