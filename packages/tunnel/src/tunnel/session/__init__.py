"""Sessions: streams, endings, receipts, drain. Sans-IO; see base.py for the rules."""
