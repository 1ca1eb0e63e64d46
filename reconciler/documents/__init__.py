"""The JSON documents: each is written and read back in one place."""
