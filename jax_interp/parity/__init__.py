"""Converted networks against their PyTorch peers, which read the same checkpoint files: the command `parity`."""
