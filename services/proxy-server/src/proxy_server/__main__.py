"""The command `proxy-server`, and its one subcommand `token`."""

import asyncio
import logging
import signal
import sys

from proxy_server import token
from proxy_server.settings import ProxyServerSettings
from servicekit import logs
from servicekit.run import Stop, run
from servicekit.settings import load


def main() -> None:
    """Reads the settings, then serves until SIGTERM. SIGHUP reads tokens and certificate again."""
    if sys.argv[1:2] == ["token"]:
        sys.exit(token.main(sys.argv[2:]))
    settings = load(ProxyServerSettings, prog="proxy-server")
    logs.configure(settings.log_format, settings.log_level, "proxy-server")
    if settings.log_level != "debug":
        # What aioquic warns of is in connection_failed and connection_lost, in our words.
        logging.getLogger("quic").setLevel(logging.ERROR)

    async def serve(stop: Stop) -> int:
        from proxy_server.app import ProxyServer  # An engine takes a while to import: not for --help.

        server = ProxyServer(settings)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload)
        return await server.run(stop)

    sys.exit(run(serve))


if __name__ == "__main__":
    main()
