"""Objects of an API server as plain values: which there are, what is kept of them, and what Pods amount to."""
