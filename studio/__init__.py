"""Sessions, transport, page and telemetry around one engine. Does no tensor arithmetic; see docs/protocol.md."""
