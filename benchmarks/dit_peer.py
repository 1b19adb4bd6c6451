"""diffusers' transformer with random weights, and these weights as upstream's checkpoint has them."""

import torch
from diffusers import CosmosTransformer3DModel  # pyright: ignore[reportPrivateImportUsage]

from jax_interp.parity.peers.transformer import upstream_name


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Set weights that keep activations near unit scale: normal over the root of the fan-in, norms around one."""
    generator = torch.Generator(device=next(model.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.normal_(1, 0.1, generator=generator)
            elif "pos_emb" in name:
                weight.normal_(0, 1, generator=generator)
            else:
                weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)


def upstream_state_dict(model: CosmosTransformer3DModel) -> dict[str, torch.Tensor]:
    """Return the peer's weights under the keys of `model.pt`."""
    return {upstream_name(name): tensor for name, tensor in model.state_dict().items()}
