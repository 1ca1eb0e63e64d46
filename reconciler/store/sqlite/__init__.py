"""The state in one SQLite file: its engine, the checks of the file, and the locks beside it."""
