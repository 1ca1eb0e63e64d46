"""The durable state: implementations of ``ports.StateBackend``, and their shared code."""
