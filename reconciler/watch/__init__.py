"""Watches files: when to read one again, and what its new content means."""
