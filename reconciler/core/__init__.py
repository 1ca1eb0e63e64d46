"""Every rule of the program, as functions from values to values: no I/O, no clock, no logging."""
