"""What every finback program does on the outside, and nothing on the inside: a stand-in for the tests of the stacks.

`fake_program.py NAME [FLAGS]`: FAKE_RECORD is a file that gets a line for each start and each end. FAKE_BEHAVIOUR is a
JSON object {NAME: "dies" | "dies again" | "never ready" | "deaf" | "drains for ever" | "refuses" | "mute"}. The metrics
port is real, and the one that was asked for; of the other listeners only the log tells.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count

LISTENERS = {
    "http-target": {"http": "--listen", "server_first": "--server-first-listen"},
    "proxy-server": {"quic": "--listen"},
    "link": {"link": "--listen"},
    "proxy-client": {"socks": "--listen"},
}
SIGNALS = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


def main() -> int:
    name, flags = sys.argv[1], sys.argv[2:]
    behaviour = json.loads(os.environ.get("FAKE_BEHAVIOUR", "{}")).get(name, "")
    record("start", name, flags)
    if behaviour == "dies" or (behaviour == "dies again" and times_started(name) > 1):
        print("cannot bind: no such luck", file=sys.stderr)
        return 3
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if behaviour == "never ready" else 200)
            self.end_headers()
            self.wfile.write(b"no tunnel connection yet\n")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", asked_port(flags, "--metrics-listen")), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("a line that is no JSON", file=sys.stderr)
    for number, (listener, flag) in enumerate(LISTENERS.get(name, {}).items(), 1):
        say("listening", listener=listener, address=f"127.0.0.1:{asked_port(flags, flag) or number}")
    say("listening", listener="metrics", address=f"127.0.0.1:{server.server_port}")
    return until_it_ends(name, behaviour)


def until_it_ends(name: str, behaviour: str) -> int:
    terms = 0
    for number in count(1):
        match signal.sigwait(SIGNALS):
            case signal.SIGHUP if behaviour != "mute":
                record("hup", name)
                say("plan_refused", reason="not today") if behaviour == "refuses" else say("plan_reread", number=number)
            case signal.SIGUSR1 if behaviour != "mute":
                record("usr1", name)
                say("rebound", number=number)
            case signal.SIGTERM if behaviour == "deaf":
                record("deaf", name)
            case signal.SIGTERM:
                terms += 1
                if behaviour != "drains for ever" or terms > 1:
                    record("end", name)
                    return 0
    raise AssertionError("it counts for ever")


def asked_port(flags: list[str], flag: str) -> int:
    return int(flags[flags.index(flag) + 1].rpartition(":")[2]) if flag in flags else 0


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)


def record(what: str, name: str, flags: list[str] | None = None) -> None:
    with open(os.environ["FAKE_RECORD"], "a", encoding="utf-8") as file:
        file.write(json.dumps([what, name, flags or []]) + "\n")


def times_started(name: str) -> int:
    with open(os.environ["FAKE_RECORD"], encoding="utf-8") as file:
        return sum(json.loads(line)[:2] == ["start", name] for line in file)


if __name__ == "__main__":
    sys.exit(main())
