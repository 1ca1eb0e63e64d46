"""OKX for this program: codes, credentials, the wire format, and the client."""
