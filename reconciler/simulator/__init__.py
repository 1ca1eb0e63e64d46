"""The simulated exchange: our counterpart on loopback, stricter than OKX and never kinder.

``rules`` holds the behaviour as a deterministic value machine that is given the time; ``server`` puts
it behind real sockets. ``behaviours`` says of everything it does whether OKX documents it.
"""
