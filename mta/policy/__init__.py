"""Decisions: values and ``now`` in, values out."""
