"""`loadgen ledger`: which hop lost the end of a stream, asked of programs that run."""
