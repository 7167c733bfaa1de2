"""Two runs, or two sets of repeated runs, side by side: `reading`, `measures`, `spread`, `judgement`, `table`."""
