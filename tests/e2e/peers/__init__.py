"""Other people's programs, to speak with: each a class that configures, starts and ends one.

They are Debian's, installed or unpacked into build/tools.  Each server runs in a private view
of the machine (``world``), so none sees, needs or changes anything of the real one.  What is
not there is skipped with its name.
"""
