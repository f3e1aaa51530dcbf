"""An API server as source of objects and place of statuses: client, watches, leases, reviews."""
