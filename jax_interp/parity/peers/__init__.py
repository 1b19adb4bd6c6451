"""PyTorch's side of a comparison: the only room that imports torch, diffusers and accelerate (the extra `parity`)."""
