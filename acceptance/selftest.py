"""`loadgen selftest`: each class of failure is planted and reported as exactly that; the controls raise no alarm."""

import json
import subprocess
import tempfile
from pathlib import Path

from serving import BIN, report

CLASSES, CONTROLS = 12, 5


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        matrix = Path(directory) / "matrix.json"
        code = subprocess.run([BIN / "loadgen", "selftest", "--json", matrix], check=False).returncode
        found = json.loads(matrix.read_text())
    classes, controls = found["classes"], found["controls"]
    detected, alarms = classes["detected"], controls["false_alarms"]
    report("failure classes", f"{detected} of {classes['planted']} detected", detected == classes["planted"] == CLASSES)
    report("controls", f"{alarms} false alarms in {controls['run']}", alarms == 0 and controls["run"] == CONTROLS)
    rows, seconds = len(found["matrix"]), found["seconds"]
    report("loadgen selftest", f"exit code {code}, {rows} rows in {seconds:.0f} s", code == 0)


if __name__ == "__main__":
    main()
