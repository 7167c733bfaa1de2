"""What is measured, never asserted: `python -m bench` is `make bench`; the other scripts look at one part each."""
