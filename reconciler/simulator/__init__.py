"""The simulated exchange on loopback: as strict as OKX or stricter.

``rules`` is deterministic: its methods receive the time. ``server`` serves it over real sockets.
``behaviours`` states for each behaviour whether OKX documents it.
"""
