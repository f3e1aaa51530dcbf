"""Where should it go: filters, weighted scorers, pickers, the prefix index, and the registry of plugins."""
