"""gRPC over HTTP/2: a sans-IO connection machine and a thin asyncio edge."""
