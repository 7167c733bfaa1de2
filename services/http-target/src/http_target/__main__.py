"""The http-target command."""

import sys
from functools import partial

from http_target.metrics import Metrics
from http_target.server import Server
from http_target.session import Service, speak_first, speak_http
from http_target.settings import HttpTargetSettings
from servicekit.address import Address
from servicekit.listen import listen_tcp
from servicekit.logs import configure, get_logger
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop, run
from servicekit.settings import load

EXIT_CLEAN = 0
EXIT_CUT = 1  # connections had to be reset for the program to end


def main() -> int:
    settings = load(HttpTargetSettings, prog="http-target")
    configure(settings.log_format, settings.log_level, "http-target")
    return run(partial(_serve, settings))


async def _serve(settings: HttpTargetSettings, stop: Stop) -> int:
    log = get_logger()
    metrics = registry()
    server = Server(Service(settings, Metrics(metrics), stop.draining))
    for name, address, speak in (
        ("http", settings.listen, speak_http),
        ("server_first", settings.server_first_listen, speak_first),
    ):
        listener = listen_tcp(address)
        server.add(listener, speak)
        log.info("listening", listener=name, address=str(Address.of_socket(listener.getsockname())))
    with MetricsServer(settings.metrics_listen, metrics, lambda: "draining" if stop.draining.is_set() else None):
        log.info("ready")
        await stop.draining.wait()
        log.info("draining", connections=server.connections)
        clean = await server.drain(settings.drain_timeout_s, stop.now)
        log.info("stopped", clean=clean)
    return EXIT_CLEAN if clean else EXIT_CUT


if __name__ == "__main__":
    sys.exit(main())
