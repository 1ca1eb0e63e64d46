"""The verbs of ``mmp``: the only place that connects the other packages."""
