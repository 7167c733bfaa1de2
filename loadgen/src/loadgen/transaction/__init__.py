"""One transaction: its phases and outcomes, the watchdog over all of them, and the two ways to talk to a target.

- `phases`, `outcomes`: the vocabulary.
- `transaction`, `watchdog`: which phase is open, since when, and what happens when it is open for too long.
- `socks5`, `raw`, `http1`, `sinks`: the byte-exact path, on sockets of our own.
- `real_client`: the view of a real HTTP client, through httpx.
"""
