"""The comparison itself: networks that are in both folders, their weights, and both sides run in lockstep."""
