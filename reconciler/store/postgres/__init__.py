"""The state in PostgreSQL: many hosts, one ledger. Nothing outside this folder names the library."""
