"""A SOCKS5 proxy that is correct but for one fault, which it was asked for: what a tester is tested with.

way.py        one direction of a connection
fault.py      the seam: what a fault can do to a connection
handshake.py  the proxy's side of SOCKS5
relay.py      a connection from its greeting to its two ends, correct
server.py     a listener and its connections
faults/       one fault a file, each with a line that says what it does
registry.py   all of them
"""
