"""What do the servers say and what do we count: exposition text, dialects, the ledger, meters."""
