"""The foreign wire, between bytes and values: OpenIM's handshake, frames and codecs. No I/O."""
