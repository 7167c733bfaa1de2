"""The edge: the only asyncio and socket code of the tunnel. It moves bytes and parses errors, and decides nothing."""
