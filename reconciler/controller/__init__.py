"""What ``run`` and ``apply`` drive: passes, the loop over them, their accounts and leases."""
