"""
How fast Homeport is, measured beside plain tools that do the least that could be done.

Each module is one bench: `LIMIT` says what it is held against, `run` measures both in turn on the
same machine and yields rows. Results are shown and kept, never asserted: time is the machine's.
"""
