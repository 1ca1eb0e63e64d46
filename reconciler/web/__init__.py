"""The HTTP server of a running loop: probes, metrics, status page.

The server runs in its own thread. It receives values and cannot change what the loop does.
"""
