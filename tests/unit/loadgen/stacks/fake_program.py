"""What every finback program does on the outside, and nothing on the inside: a stand-in for the tests of the stacks.

`fake_program.py NAME [FLAGS]`: FAKE_RECORD is a file that gets a line for each start and each end. FAKE_BEHAVIOUR is a
JSON object {NAME: "dies" | "never ready" | "deaf"}.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

LISTENERS = {
    "http-target": ["http", "server_first"],
    "proxy-server": ["quic"],
    "link": ["link"],
    "proxy-client": ["socks"],
}


def main() -> int:
    name, flags = sys.argv[1], sys.argv[2:]
    behaviour = json.loads(os.environ.get("FAKE_BEHAVIOUR", "{}")).get(name, "")
    record("start", name, flags)
    if behaviour == "dies":
        print("cannot bind: no such luck", file=sys.stderr)
        return 3
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if behaviour == "never ready" else 200)
            self.end_headers()
            self.wfile.write(b"no tunnel connection yet\n")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("a line that is no JSON", file=sys.stderr)
    for number, listener in enumerate(LISTENERS.get(name, []), 1):
        print(
            json.dumps({"event": "listening", "listener": listener, "address": f"127.0.0.1:{number}"}), file=sys.stderr
        )
    metrics = f"127.0.0.1:{server.server_port}"
    print(json.dumps({"event": "listening", "listener": "metrics", "address": metrics}), file=sys.stderr, flush=True)
    while signal.sigwait({signal.SIGTERM}) and behaviour == "deaf":
        record("deaf", name)
    record("end", name)
    return 0


def say_listening(listener: str, port: int) -> None:
    event = {"event": "listening", "listener": listener, "address": f"127.0.0.1:{port}"}
    print(json.dumps(event), file=sys.stderr, flush=True)


def record(what: str, name: str, flags: list[str] | None = None) -> None:
    with open(os.environ["FAKE_RECORD"], "a", encoding="utf-8") as file:
        file.write(json.dumps([what, name, flags or []]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
