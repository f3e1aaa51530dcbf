"""Composition roots: the only package that knows everyone. It builds, connects and closes; it decides nothing.

`picker` is the endpoint picker; `gateway` the supervisor of `stellwerk run` and its picker child (this package run as a
program); `standalone` the picker alone, behind somebody else's gateway.
"""
