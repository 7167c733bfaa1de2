"""The control: a proxy without a fault."""

from loadgen.faulty.fault import Fault

SUMMARY = "no fault: everything is passed on as it came"


class NoFault(Fault):
    """What `Fault` does by itself."""
