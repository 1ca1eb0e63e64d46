"""What people and machines see of a running loop over HTTP: probes, metrics, status page.

It runs in a thread of its own and is handed values; it has no way to touch what the loop does.
"""
