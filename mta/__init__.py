"""Posthouse: a mail transfer agent for people who run mail queues."""

__version__ = "0.1.0"
