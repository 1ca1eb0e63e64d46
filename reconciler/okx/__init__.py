"""OKX as this program meets it: codes, credentials, the wire format, and the client that speaks it."""
