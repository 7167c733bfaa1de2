"""What is counted: of transactions (`tally`, `metrics`, `anomalies`), of programs (`scrape`, `observe`, `drain`)."""
