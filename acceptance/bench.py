"""`make bench`: bulk download with the aioquic engine, at least 50 Mbit/s."""

import re
import subprocess

from serving import ROOT, report

MBIT_PER_S_MIN = 50.0


def main() -> None:
    command = ["make", "--no-print-directory", "bench"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(run.stdout)
    speeds = {name: float(speed) for name, speed in re.findall(r"^(1200|1452|path) +(\d+)", run.stdout, re.MULTILINE)}
    path = speeds.get("path", 0)
    report("bulk download, datagrams of the path's size", f"{path} Mbit/s", path >= MBIT_PER_S_MIN)
    figure = f"{speeds.get('1452')} Mbit/s with 1,452 bytes, {speeds.get('1200')} with 1,200"
    report("bulk download, datagrams as on Ethernet", figure, speeds.get("1452", 0) >= MBIT_PER_S_MIN)


if __name__ == "__main__":
    main()
