"""One job each, on asyncio, over the core and the ports."""
