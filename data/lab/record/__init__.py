"""Recorder of the lab corpus: real programs in network namespaces on one machine, their traffic captured and cut.

`python3 -m record` (from `data/lab`) or `just lab record` runs it; `../README.md` says what it makes.
"""
