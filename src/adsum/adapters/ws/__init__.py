"""The WebSocket server: bytes and callbacks to the gateway, nothing decided here."""
