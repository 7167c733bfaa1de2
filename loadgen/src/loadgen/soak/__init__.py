"""The soak: a load on a schedule, what is counted meanwhile, and the verdict.

- `mix`, `schedule`, `generator`: what is offered, when, and by whom.
- `tally`, `metrics`, `anomalies`: what is counted.
- `scrape`, `ledger`, `drain`: what the proxies say of themselves.
- `thresholds`, `verdict`: what all that comes to.
- `settings`, `command`, `run`, `progress`, `report`: the program around it.
"""
