"""Recorded outputs of upstream's own classes: reading a folder of them, and replaying it with converted networks."""
