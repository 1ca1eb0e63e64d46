"""The verbs of ``mmp``: the only place that wires doors, core and edges together."""
