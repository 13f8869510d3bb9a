"""What touches the machine: clocks, sockets, processes, mailboxes, the log."""
