"""How the programs of the kernels for Hopper GPUs fill such a GPU."""

PROCESSORS = 132
"""The number of multiprocessors of an H100 or H200; each runs one program of these kernels at a time."""
BLOCK_Q, COMPUTE_GROUPS = 64, 2
"""The queries of a block of attention, and the warpgroups of a program, which have a block each."""


def attention_waves(num_queries: int, num_heads: int) -> int:
    """Return in how many turns the GPU runs the programs of `flash_attention` for so many queries of each head."""
    blocks = num_heads * -(-num_queries // BLOCK_Q)
    return -(-blocks // (COMPUTE_GROUPS * PROCESSORS))
