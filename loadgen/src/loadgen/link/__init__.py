"""`loadgen link`: a small UDP relay that does to datagrams what a bad network does, from a seeded plan.

- `plan`: what happens when, as data (TOML).
- `line`: the decisions for one direction: pure, seeded, told the time.
- `udp`, `alarm`, `relay`: the sockets and the clock around it.
- `control`: what changes while it runs, on a signal or at a moment of the plan.
- `command`: the command line.
"""
