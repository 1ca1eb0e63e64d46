"""The simulated exchange on loopback: as strict as OKX or stricter.

``exchange`` is deterministic: its methods receive the time. ``server`` serves it over real sockets.
``behaviour_sources`` states for each behaviour whether OKX documents it.
"""
