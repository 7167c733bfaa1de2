"""`loadgen selftest`: whether this tester sees what is there, and does not see what is not.

cases.py     the table: what is planted, and what it must come to
bench.py     the programs that it takes: http-target, the faulty proxy
recorder.py  what the tester reported
single.py    one transaction against one fault
controls.py  the two controls that are loads: a lossy tunnel, a generator that cannot keep up
matrix.py    the table of results, for people and as JSON
"""
