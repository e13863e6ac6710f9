"""The serving process: one Span of one model, offered to whoever opens a Link. ``peer.serve`` is its command line."""
