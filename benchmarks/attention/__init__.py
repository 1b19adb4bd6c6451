"""Attention with scores in int8, as a trial beside the kernel of the product."""
