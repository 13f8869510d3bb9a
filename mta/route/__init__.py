"""Routing: from an address to channels, hosts and local parts, without I/O."""
