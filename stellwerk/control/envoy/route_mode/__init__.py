"""Envoy's configuration for a Gateway: the HTTPRoute chooses the pool, and the pool's picker the endpoint.

What a machine's gateway and this have in common (filters, limits, replies, clusters of pools) stays in the package
above. docs/decisions/route-mode.md says what of Envoy this builds on.
"""
