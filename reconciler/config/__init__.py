"""The door for files: YAML becomes trusted values, or every problem it has, each with its place."""
