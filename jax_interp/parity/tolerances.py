"""The tolerances of a comparison with PyTorch, by the names under which reports and docs/parity.md have them.

Errors are relative L2: |ours - theirs| / |theirs|.
"""

NETWORK_F32 = 1e-5
"""A whole tiny network in float32 against upstream (its own spread over summation orders is 2e-7 to 1.2e-6)."""

PEER_BLOCK_F32 = 2e-5
"""One block in float32 against an independent implementation, from the same input (up to 4e-6 was seen)."""

PEER_F32 = 1e-4
"""A whole network in float32 against an independent implementation."""

SAMPLE_F32 = 1e-4
"""Latents after a whole sampling run in float32 (upstream's own spread is 3e-7)."""

FRAMES_WITHIN_ONE = 0.999
"""Share of uint8 values of a float32 run that may differ from upstream's by at most 1."""

FRAMES_BF16_PSNR = 40.0
"""Frames of a bfloat16 run against upstream's bfloat16 frames, in dB."""

BF16_RATIO = 1.5
"""Our bfloat16 error against the float32 oracle over PyTorch bfloat16's own error against it."""
