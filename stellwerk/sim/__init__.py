"""Simulated model servers: one server model, in virtual time or behind real HTTP."""
