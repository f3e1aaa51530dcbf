"""Stellwerk: an inference gateway on Envoy, and an endpoint picker for any gateway of the Inference Extension."""

__version__ = "0.1.0"
