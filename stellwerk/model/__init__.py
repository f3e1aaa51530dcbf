"""The nouns: request, endpoint, catalog, outcome. Everything else imports this layer; it imports nothing of ours."""
