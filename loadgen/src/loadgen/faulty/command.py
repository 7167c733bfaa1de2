"""`loadgen faulty`: the command line of the faulty proxy.

Rules
- Each fault that is asked for has a listener of its own, and its name is the listener's name in the log.
  A fault that is asked for more than once is NAME, NAME.2, NAME.3 and so on.
- `struck` is logged when a fault strikes, with the listener and the time on the machine's monotonic clock.
- One fault listens where it was said; several take the ports from there on, or free ones where the port is 0.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from time import monotonic

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from loadgen.faulty.fault import Fault
from loadgen.faulty.registry import FAULTS
from loadgen.faulty.server import serve_all
from servicekit import logs
from servicekit.address import Address
from servicekit.listen import listen_tcp
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop, run
from servicekit.settings import MetricsListen, Settings, load

log = logs.get_logger()


class FaultySettings(Settings):
    """A SOCKS5 proxy (no authentication, CONNECT) that is correct but for one fault: point a tester at it, and see
    whether it says what the fault is. `loadgen selftest` is that for this tester."""

    model_config = SettingsConfigDict(env_prefix="LOADGEN_FAULTY_")

    fault: tuple[str, ...] = Field((), description="which one; --list shows what there is")
    listen: Address = Field(Address("127.0.0.1", 1081), description="where SOCKS5 is spoken")
    list: bool = Field(False, description="print the faults, one line each, and exit")
    metrics_listen: MetricsListen = Address("127.0.0.1", 9106)

    @model_validator(mode="after")
    def _is_known(self) -> "FaultySettings":
        if unknown := [name for name in self.fault if name not in FAULTS]:
            raise ValueError(f"--fault {unknown[0]}: there is no such fault; there are {', '.join(FAULTS)}")
        if not self.fault and not self.list:
            raise ValueError("--fault is required; --list shows what there is")
        return self

    def listeners(self) -> Iterator[tuple[str, str, Address]]:
        """The name of each listener, its fault, and where it is."""
        port = self.listen.port
        for index, (name, fault) in enumerate(zip(listener_names(self.fault), self.fault, strict=True)):
            yield name, fault, Address(self.listen.host, port + index if port else 0)


def listener_names(faults: Iterable[str]) -> Iterator[str]:
    """What the listeners of these faults are called."""
    seen = Counter[str]()
    for fault in faults:
        seen[fault] += 1
        yield fault if seen[fault] == 1 else f"{fault}.{seen[fault]}"


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen faulty` until it is told to stop; returns the exit code."""
    settings = load(FaultySettings, argv, prog="loadgen faulty")
    if settings.list:
        width = max(len(name) for name in FAULTS)
        for planted in FAULTS.values():
            print(f"{planted.name:<{width}}  {planted.summary}")
        return 0
    logs.configure(settings.log_format, settings.log_level, "faulty")
    return run(lambda stop: _serve(settings, stop))


async def _serve(settings: FaultySettings, stop: Stop) -> int:
    with ExitStack() as exits:
        exits.enter_context(MetricsServer(settings.metrics_listen, registry(), lambda: None))
        async with asyncio.TaskGroup() as tasks:
            serving = []
            for name, fault, address in settings.listeners():
                listener = exits.enter_context(listen_tcp(address))
                serving.append(tasks.create_task(serve_all(listener, telling(FAULTS[fault].make, name))))
                log.info("listening", listener=name, address=str(Address.of_socket(listener.getsockname())))
            log.info("ready")
            await stop.draining.wait()
            for task in serving:
                task.cancel()
    log.info("stopped")
    return 0


def telling(make: Callable[[], Fault], listener: str) -> Callable[[], Fault]:
    """Makes faults that log when they strike."""

    def strike() -> None:
        log.info("struck", listener=listener, at_s=monotonic())

    def made() -> Fault:
        fault = make()
        fault.on_strike = strike
        return fault

    return made
