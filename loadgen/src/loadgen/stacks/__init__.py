"""Stacks: the programs of finback brought up together, for a soak or for people, and broken on request.

- `process`: one program as a process; `program_log`: what it says.
- `local`: all of them as processes on loopback.
- `project`: one run of the compose file.
- `compose`: all of them as containers.
- `local_faults`, `compose_faults`: what each stack can do to itself; `link_control`: to its link.
- `command`: `loadgen stack`; `choices`: its flags that `loadgen soak` has too.
"""
