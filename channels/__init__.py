"""The channel programs that deliver runs: one module each, run by ``python -m``."""
