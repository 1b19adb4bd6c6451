"""What one block of the diffusion transformer costs a device of a mesh: arithmetic, weights, and bytes over links.

By formula; `tests/benchmarks/test_block_costs.py` holds the bytes against those in compiled programs. The rows of one
device are one pair. The last block of a sampler's evaluation, which leaves the known frames out, costs a little less.
"""

from dataclasses import dataclass

from jax_interp.config import DiTConfig
from jax_interp.runtime.all_to_all import head_groups
from jax_interp.runtime.mesh_shape import MeshShape

EXCHANGED = 4
"""The arrays in a block's all-to-alls: queries, keys and values to heads, and the result back to tokens."""
SUMS = 3
"""The all-reduces of a block: after self-attention, cross-attention and MLP."""


@dataclass(frozen=True)
class BlockCosts:
    """A block of `config` on one device of a mesh `shape`, for a pair at `height`×`width` pixels."""

    config: DiTConfig
    shape: MeshShape
    height: int = 704
    width: int = 1280
    frames: int = 3
    """Latent frames."""
    text_tokens: int = 512
    itemsize: int = 2
    num_shards: int | None = None
    """The number of shards of the weights; by default all of `data` and `sequence`, for one process."""

    @property
    def tokens(self) -> int:
        """The tokens of a pair."""
        return self.frames * self._cells

    @property
    def tokens_here(self) -> int:
        """The tokens of this device, padding included."""
        return self.frames * -(-self._cells // self.shape.sequence)

    @property
    def heads(self) -> int:
        """The heads of this device in the exchange, padding included."""
        return _up(self._own_heads, self.shape.sequence)

    @property
    def exchanged(self) -> int:
        """The bytes that this device has of the queries (or keys, values, result) when they are exchanged."""
        if self.shape.sequence == 1:
            return 0
        return self.tokens_here * self.heads * self.config.head_width * self.itemsize

    @property
    def summed(self) -> int:
        """The bytes of one of the arrays that are summed over `tensor`."""
        return 0 if self.shape.tensor == 1 else self.tokens_here * self.config.width * self.itemsize

    @property
    def weights(self) -> int:
        """The bytes of a block's weights on this device while it computes, without norms (some hundred values)."""
        width, inner, hidden = self.config.width, self._inner, self.config.mlp_width // self.shape.tensor
        attentions = (4 * width + 2 * width + 2 * self.config.text_width) * inner
        modulations = 3 * (1 + 3) * width * self.config.adaln_rank
        return (attentions + 2 * width * hidden + modulations) * self.itemsize

    @property
    def shard(self) -> float:
        """The bytes of this device's shard of the weights, which it keeps or copies from the host."""
        return self.weights / self._num_shards

    @property
    def exchanges(self) -> int:
        """The all-to-alls of a block: there and back, for each group of heads."""
        heads = self.config.num_heads // self.shape.tensor
        return 2 * head_groups(self.tokens, heads, self.shape.sequence)

    @property
    def sent_by_exchange(self) -> float:
        """The bytes that leave this device in the all-to-alls."""
        return EXCHANGED * self.exchanged * (self.shape.sequence - 1) / self.shape.sequence

    @property
    def sent_by_sums(self) -> float:
        """The bytes that leave this device in the all-reduces, done in a ring."""
        return SUMS * 2 * self.summed * (self.shape.tensor - 1) / self.shape.tensor

    @property
    def received_by_gather(self) -> float:
        """The bytes of the others' shards that reach this device where weights are sharded."""
        return self.weights - self.shard

    @property
    def flop(self) -> float:
        """The multiplications and additions in the matrix products and both attentions, padding included."""
        width, inner, here = self.config.width, self._inner, self.tokens_here
        products = here * width * (4 + 2) * inner + here * 2 * width * self.config.mlp_width // self.shape.tensor
        products += self.text_tokens * self.config.text_width * 2 * inner  # every device's own keys and values
        heads_here = self.heads // self.shape.sequence
        attended = 2 * self.tokens**2 * heads_here * self.config.head_width
        attended += 2 * here * self.text_tokens * inner
        return 2.0 * (products + attended)

    @property
    def _cells(self) -> int:
        side = 8 * self.config.patch_size
        return (self.height // side) * (self.width // side)

    @property
    def _own_heads(self) -> int:
        return self.config.num_heads // self.shape.tensor

    @property
    def _inner(self) -> int:
        return self._own_heads * self.config.head_width

    @property
    def _num_shards(self) -> int:
        return self.shape.data * self.shape.sequence if self.num_shards is None else self.num_shards


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
