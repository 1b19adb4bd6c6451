"""The training of the demo's video tokenizer, from a linear start, on windows of the film and rendered scenes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from jax_interp.config import VideoTokenizerConfig
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.train.data import latents
from jax_interp.train.optimization.ema import exponent, update_average
from jax_interp.train.optimization.optimizer import make_optimizer
from jax_interp.train.settings import OptimizerSettings
from jax_interp.types import Params

CONFIG = VideoTokenizerConfig(channels=26)
"""The largest number of channels that leaves the demo's folder below 20 MB."""
CLIP = 9
"""The number of frames that are encoded together: one, and eight more that become the second latent frame."""
STEPS, BATCH = 18000, 8
LATENT_NOISE = 0.03
"""The noise on the latents, relative to their own deviation. Sampling needs neighbouring latents to decode alike."""
SQUARED, EDGES, STRUCTURE = 5.0, 0.5, 0.2
"""The weights of the terms of the loss beside the mean absolute error."""
OPTIMIZER = OptimizerSettings(
    learning_rate=1.5e-3, warmup_steps=300, final_factor=0.02, betas=(0.9, 0.98), epsilon=1e-9, weight_decay=0.01
)
SILENT = ("attention/out", "resample/spatial", "resample/temporal")
FIXED = ("wavelets", "stats/")
"""Parts of parameter paths that are measured or given, not trained."""


class TokenizerState(NamedTuple):
    """The state that a step takes and replaces."""

    step: Array
    params: Params
    optimizer: Any
    average: Params


def network(dtype: Any = jnp.float32) -> Network[VideoTokenizer]:
    """Return the tokenizer's structure, with parameters of `dtype`."""
    return Network(lambda rngs: VideoTokenizer(CONFIG, dtype=dtype, rngs=rngs))


def trainable(params: Params) -> tuple[Params, Params]:
    """Split `params` into those that are trained and those that are fixed."""
    leaves = dict(flatten(params))
    fixed = {path: leaf for path, leaf in leaves.items() if any(part in path for part in FIXED)}
    return unflatten({path: leaf for path, leaf in leaves.items() if path not in fixed}), unflatten(fixed)


def merged(trained: Params, fixed: Params) -> Params:
    """Return one tree of what `trainable` has split."""
    return unflatten(dict(flatten(trained)) | dict(flatten(fixed)))


def linear_start(clips: UInt8[np.ndarray, "n F Y X 3"], seed: int) -> Params:
    """Return parameters whose encoder is linear: the principal components of the clips, level by level.

    Residual branches begin as zero, so what is left of the encoder is its first convolution, the linears where the
    width changes, and the two halvings. Each of them keeps the components of largest variance of what comes in. Since
    `silu(x) - silu(-x) = x`, the last convolution gets the components exactly if they are there with both signs. Some
    constants beside them keep the norm before it from taking away how bright a frame is. The decoder begins with
    orthogonal linears: it has to learn, since repeating pixels cannot undo a halving.
    """
    params = {path: np.array(leaf, np.float32) for path, leaf in flatten(network().random_params(seed))}
    rng = np.random.default_rng(seed)
    for path, leaf in params.items():
        if path.endswith("bias") and "norm" not in path:
            leaf[...] = 0
        if path.endswith("kernel"):
            _initialise(path, leaf, rng)
    for path in ("decoder/conv_out/spatial/kernel", "decoder/conv_out/temporal/kernel"):
        params[path] *= 0.2  # the first pictures are nearly grey, not glaring
    with jax.default_matmul_precision("highest"):
        _fit_encoder(params, jnp.asarray(clips))
    return jax.tree.map(jnp.asarray, unflatten(params))


def _initialise(path: str, kernel: np.ndarray, rng: np.random.Generator) -> None:
    """Fill `kernel`: in a residual branch randomly, with zeros at its end, else orthogonally at its own place."""
    inputs, outputs = kernel.shape[-2:]
    in_branch = ".conv" in path.replace("/", ".") and "block_" in path
    if "attention/" in path and path.split("/")[-2] in ("query", "key", "value"):
        kernel[...] = rng.normal(size=kernel.shape) * inputs**-0.5
    elif any(part in path for part in SILENT) or (in_branch and "conv2/temporal" in path):
        kernel[...] = 0
    elif in_branch:
        kernel[...] = rng.normal(size=kernel.shape) * np.prod(kernel.shape[:-1]) ** -0.5
    else:
        kernel[...] = 0
        middle = {2: (), 3: (-1,), 4: (1, 1)}[
            kernel.ndim
        ]  # along time the last of three taps is the output's own place
        size = max(inputs, outputs)
        square, _ = np.linalg.qr(rng.normal(size=(size, size)))
        kernel[middle] = square[:inputs, :outputs]


def _fit_encoder(params: dict[str, np.ndarray], clips: Array) -> None:
    """Set every linear step of the encoder to principal components, in the order in which pixels pass them."""
    tokenizer = network().bind(unflatten({path: jnp.asarray(leaf) for path, leaf in params.items()}))
    x = clips.astype(jnp.float32) / 128 - 1
    x = np.asarray(tokenizer.encoder.patcher(x))
    x = _keep(params, "encoder/conv_in/spatial", x, (1, 1), unit=True)
    params["encoder/conv_in/temporal/kernel"][-1] = np.eye(x.shape[-1])
    x = _widen(params, "encoder/down_0/block_0/shortcut", x)
    x = _halve_space(params, "encoder/down_0/resample/spatial", x)
    x = _halve_time(params, "encoder/down_0/resample/temporal", x)
    width = x.shape[-1]
    params["encoder/down_0/resample/mix/kernel"][...] = np.eye(width)
    # Both signs of the components with most variance, and constants in the last four places.
    count = (params["encoder/down_1/block_0/shortcut/kernel"].shape[1] - 4) // 2
    rows = x.reshape(-1, width)
    basis = np.linalg.svd(np.cov(rows.T))[0][:, :count]
    shortcut = params["encoder/down_1/block_0/shortcut/kernel"]
    shortcut[...] = 0
    shortcut[:, :count], shortcut[:, count : 2 * count] = basis, -basis
    level = 4 * float(np.sqrt(np.square(rows).sum(1).mean() / 2))
    params["encoder/down_1/block_0/shortcut/bias"][-4:] = [level, -level, level, -level]
    for stage in ("down_1", "down_2"):
        path = f"encoder/{stage}/block_0/shortcut/kernel"
        if stage != "down_1" and path in params:
            params[path][...] = np.eye(len(params[path]))
    components = x.reshape(-1, width) @ basis
    latents = np.linalg.svd(np.cov(components.T))[0][:, : CONFIG.latent_channels]
    out = params["encoder/conv_out/spatial/kernel"]
    out[...] = 0
    # The norm divides by the deviation over a frame, which the constants decide.
    deviation = float(np.sqrt((4 * level**2 + 2 * np.square(components).sum(1).mean()) / shortcut.shape[1]))
    scale = np.sqrt(np.square(components @ latents).mean(0))
    out[1, 1, :count] = latents * deviation / scale
    out[1, 1, count : 2 * count] = -latents * deviation / scale
    params["encoder/conv_out/temporal/kernel"][...] = 0
    params["encoder/conv_out/temporal/kernel"][-1] = np.eye(CONFIG.latent_channels)
    params["encoder/to_latent/kernel"][...] = np.eye(CONFIG.latent_channels)


def _keep(
    params: dict[str, np.ndarray], path: str, x: np.ndarray, place: tuple[int, ...], *, unit: bool = False
) -> np.ndarray:
    """Set the kernel at `path` to the principal components of the channels of `x`, and return `x` in these.

    With `unit` the first one has variance 1.
    """
    kernel = params[f"{path}/kernel"]
    basis, variances, _ = np.linalg.svd(np.cov(x.reshape(-1, x.shape[-1]).T))
    basis = basis[:, : kernel.shape[-1]]
    if unit:
        basis = basis * np.sqrt(variances[0]) ** -1
    kernel[...] = 0
    kernel[place] = basis
    return x @ basis


def _widen(params: dict[str, np.ndarray], path: str, x: np.ndarray) -> np.ndarray:
    kernel = params[f"{path}/kernel"]
    kernel[...] = 0
    kernel[:, : x.shape[-1]] = np.eye(x.shape[-1])
    return np.concatenate([x, np.zeros((*x.shape[:-1], kernel.shape[1] - x.shape[-1]), x.dtype)], axis=-1)


def _halve_space(params: dict[str, np.ndarray], path: str, x: np.ndarray) -> np.ndarray:
    """Map 2×2 places to their principal components; the average that the network adds anyway is subtracted."""
    b, f, y, w, c = x.shape
    cells = x.reshape(b, f, y // 2, 2, w // 2, 2, c).transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, f, y // 2, w // 2, 4 * c)
    basis = np.linalg.svd(np.cov(cells.reshape(-1, 4 * c).T))[0][:, :c]
    taps = basis.reshape(2, 2, c, c) - np.eye(c) / 4
    params[f"{path}/kernel"][...] = 0
    params[f"{path}/kernel"][:2, :2] = taps
    return cells @ basis


def _halve_time(params: dict[str, np.ndarray], path: str, x: np.ndarray) -> np.ndarray:
    """Map two frames to their principal components as `_halve_space` does; the first frame is repeated in front."""
    x = np.concatenate([x[:, :1], x], axis=1)
    b, f, y, w, c = x.shape
    pairs = x.reshape(b, f // 2, 2, y, w, c).transpose(0, 1, 3, 4, 2, 5).reshape(b, f // 2, y, w, 2 * c)
    basis = np.linalg.svd(np.cov(pairs.reshape(-1, 2 * c).T))[0][:, :c]
    taps = basis.reshape(2, c, c) - np.eye(c) / 2
    kernel = params[f"{path}/kernel"]
    kernel[...] = 0
    kernel[1:] = taps
    return pairs @ basis


class TokenizerTrainer:
    """The compiled training step: encode, add a little noise, decode, compare.

    The loss is the mean absolute error and, weighted, the mean squared one, the mean absolute error of differences of
    neighbouring pixels, and what SSIM lacks of 1. At 28 dB and an SSIM of 0.75 all four are between 0.03 and 0.05.
    """

    def __init__(self, fixed: Params, steps: int, sample: Callable[[Any, Array], UInt8[Array, "B F Y X 3"]]):
        """`sample(sources, key)` draws the clips of a step from the arrays that `run` is given."""
        self._fixed, self._sample = fixed, sample
        self._network = network(jnp.bfloat16)
        self._gamma = exponent(0.05)
        self.optimizer = make_optimizer(OPTIMIZER, steps)
        self.run = jax.jit(self._run, static_argnames="count", donate_argnums=0)

    def fresh(self, params: Params) -> TokenizerState:
        """Return the state before the first step."""
        return TokenizerState(
            jnp.zeros((), jnp.int32), params, self.optimizer.init(params), jax.tree.map(jnp.copy, params)
        )

    def _run(
        self, state: TokenizerState, sources: Any, key: Array, count: int
    ) -> tuple[TokenizerState, Float[Array, ""]]:
        state, losses = jax.lax.scan(lambda s, _: self._step(s, sources, key), state, length=count)
        return state, losses.mean()

    def _step(self, state: TokenizerState, sources: Any, key: Array) -> tuple[TokenizerState, Array]:
        key = jax.random.fold_in(key, state.step)
        loss, gradients = jax.value_and_grad(self._loss)(state.params, sources, key)
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        average = update_average(state.average, params, state.step, self._gamma)
        return TokenizerState(state.step + 1, params, optimizer, average), loss

    def _loss(self, params: Params, sources: Any, key: Array) -> Array:
        pick, noise = jax.random.split(key)
        x = self._sample(sources, pick).astype(jnp.float32) / 128 - 1
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), merged(params, self._fixed))
        tokenizer = self._network.bind(half)
        z = tokenizer.encode(x)
        spread = jax.lax.stop_gradient(z).std((0, 2, 3), keepdims=True)
        made = tokenizer.decode(z + LATENT_NOISE * spread * jax.random.normal(noise, z.shape))
        error = made - x
        edges = sum(jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (2, 3))
        plain = jnp.abs(error).mean() + SQUARED * jnp.square(error).mean()
        return plain + EDGES * edges + STRUCTURE * (1 - similarity(made, x).mean())


def similarity(made: Float[Array, "B F Y X C"], truth: Float[Array, "B F Y X C"]) -> Float[Array, "B F rows columns C"]:
    """Return the SSIM (Wang et al. 2004) of pixels in [-1, 1], in square windows of 8 pixels, each 4 from the next."""

    def local(values: Array) -> Array:
        summed = jax.lax.reduce_window(values, 0.0, jax.lax.add, (1, 1, 8, 8, 1), (1, 1, 4, 4, 1), "VALID")
        return summed / 64

    x, y = made.astype(jnp.float32), truth.astype(jnp.float32)
    mean_x, mean_y = local(x), local(y)
    variances = local(x * x) - mean_x**2 + local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    small, smaller = 0.06**2, 0.02**2  # (0.03, 0.01) times the range, squared
    alike = (2 * mean_x * mean_y + smaller) / (mean_x**2 + mean_y**2 + smaller)
    return alike * (2 * covariance + small) / (variances + small)


@partial(jax.jit, static_argnames="dtype")
def encode(params: Params, frames: UInt8[Array, "B F Y X 3"], dtype: Any = jnp.bfloat16) -> Float[Array, "B T H W C"]:
    """Return raw latents, float32, as the network gives them in `dtype`."""
    cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return network(dtype).bind(cast).encode(frames.astype(jnp.float32) / 128 - 1)


@partial(jax.jit, static_argnames="dtype")
def reconstruct(
    params: Params, frames: UInt8[Array, "B F Y X 3"], dtype: Any = jnp.bfloat16
) -> UInt8[Array, "B F Y X 3"]:
    """Encode and decode `frames`."""
    cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    tokenizer = network(dtype).bind(cast)
    out = tokenizer.decode(tokenizer.encode(frames.astype(jnp.float32) / 128 - 1))
    return (jnp.clip(1 + out, 0, 2) / 2 * 255).astype(jnp.uint8)


def with_statistics(params: Params, latents: Float[Array, "n 2 H W C"]) -> Params:
    """Return `params` with the mean and deviation of `latents`; all later latent frames get those of the second."""
    mean, std = latents.mean((0, 2, 3)).T, latents.std((0, 2, 3)).T  # [C, 2]
    later = CONFIG.latent_chunk - 2
    filled = [jnp.concatenate([table, jnp.repeat(table[:, 1:], later, axis=1)], axis=1) for table in (mean, std)]
    # The encoder is causal, so a picture's latent is the first one of a clip.
    statistics = {"video_mean": filled[0], "video_std": filled[1], "image_mean": mean[:, 0], "image_std": std[:, 0]}
    return {**params, "stats": statistics}


def interpolation_latents(params: Params, frames: UInt8[Array, "B 10 Y X 3"]) -> Float[Array, "B 3 H W C"]:
    """Return the latents of pairs with the frames between, on the transformer's scale, as `generate` makes them."""
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    pixels = frames.astype(jnp.float32) / 128 - 1
    return latents.interpolation_latents(network(jnp.bfloat16).bind(half), pixels, "inference")
