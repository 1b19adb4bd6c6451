"""How the demo checkpoint and clip are made: networks in PyTorch, procedural clips, training. For maintainers."""
