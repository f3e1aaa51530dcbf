"""Reproducible measurements: each compares within one run and prints what it measured against what. `make bench`."""
