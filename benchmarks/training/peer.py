"""The peer of `benchmarks.bench_train`: an adapter by PEFT beside diffusers' transformer, trained by PyTorch.

Everything is bfloat16, the adapter and its optimizer's state too: the fastest and smallest that this peer knows. (Ours
keeps the adapter and its moments in float32.) Blocks are computed again on the way back, as ours are.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig

from benchmarks import dit_peer
from benchmarks.training.cases import FPS, TEXT_TOKENS, latents_shape
from jax_interp.config import DiTConfig
from jax_interp.parity.peers import transformer as diffusers_dit

TARGETS = ["to_q", "to_v"]


def peer_step(config: DiTConfig, size: tuple[int, int], *, compiled: bool) -> tuple[Callable[[], float], int]:
    """(one optimizer step, which gives its loss when it is done; how many values are trained)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = diffusers_dit.build(config)
    torch.set_default_dtype(torch.float32)
    dit_peer.randomize(model, seed=0)
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=TARGETS))
    model.train()
    model.enable_gradient_checkpointing()
    if compiled:
        for block in model.transformer_blocks:
            block.compile()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:  # PEFT makes them float32
        weight.data = weight.data.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")
    shape = latents_shape(config, size)
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)

    clean, text = normal(1, *shape), normal(1, TEXT_TOKENS, config.text_width)
    mask = torch.zeros(1, *shape[:3], 1, device=device, dtype=torch.bfloat16)
    mask[:, [0, -1]] = 1
    c_noise = torch.full((1,), 0.25, device=device, dtype=torch.bfloat16)

    def step() -> float:
        noise = normal(1, *shape)
        channels = torch.cat([(clean + noise) / 2**0.5, mask, torch.zeros_like(mask)], dim=-1).movedim(-1, 1)
        out = model(channels, c_noise, text, fps=FPS, return_dict=False)[0].movedim(1, -1)
        loss = (out.float() - noise.float()).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step, sum(weight.numel() for weight in trained)


def measure_peer(config: DiTConfig, size: tuple[int, int], steps: int, *, compiled: bool) -> dict[str, Any]:
    """Return the seconds of every step (the first one separately), losses, and the peak of PyTorch's allocator."""
    step, trained = peer_step(config, size, compiled=compiled)
    losses, seconds = [], []
    for _ in range(steps + 2):
        started = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {
        "first_step_seconds": seconds[0],
        "compile_seconds": max(0.0, seconds[0] - statistics.median(seconds[2:])),
        "seconds": seconds[2:],
        "losses": losses,
        "allocator_peak_bytes": [peak],
        "trained_values": trained,
    }
