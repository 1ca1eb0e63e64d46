"""The durable memory: implementations of ``ports.Store`` and what they share."""
