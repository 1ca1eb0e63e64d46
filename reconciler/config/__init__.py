"""Reads files: YAML becomes validated values, or every problem of the file with its position."""
