"""Measurements beside PyTorch peers; each script prints JSON lines, kept in results/."""
