"""Stacks: the programs of finback brought up together, for a soak or for people.

- `process`: one program as a process.
- `local`: all of them as processes on loopback.
- `project`: one run of the compose file.
- `compose`: all of them as containers.
- `command`: `loadgen stack`.
"""
