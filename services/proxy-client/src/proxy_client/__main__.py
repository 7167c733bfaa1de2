"""The command `proxy-client`."""

import logging
import sys

from proxy_client.settings import ProxyClientSettings
from servicekit import logs
from servicekit.run import Stop, run
from servicekit.settings import load


def main() -> None:
    """Reads the settings, then serves until SIGTERM."""
    settings = load(ProxyClientSettings, prog="proxy-client")
    logs.configure(settings.log_format, settings.log_level, "proxy-client")
    if settings.log_level != "debug":
        # What aioquic warns of is in connection_failed and connection_lost, in our words.
        logging.getLogger("quic").setLevel(logging.ERROR)

    async def serve(stop: Stop) -> int:
        from proxy_client.app import ProxyClient  # An engine takes a while to import: not for --help.

        return await ProxyClient(settings).run(stop)

    sys.exit(run(serve))


if __name__ == "__main__":
    main()
