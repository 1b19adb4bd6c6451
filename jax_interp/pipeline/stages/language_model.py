"""A stage for decoder-only language models: it answers a prompt, whatever the placement of the weights."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from jax_interp.config import DecoderConfig, Precision
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.models.decoder_generate import NotFinite, generate_tokens
from jax_interp.models.decoder_lm import Cache, DecoderBlockInputs, DecoderLM, Logits, empty_cache, last_of
from jax_interp.models.sampling import GREEDY, Sampling
from jax_interp.nn.params import flatten, unflatten
from jax_interp.pipeline.stages.stage import StackedStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.all_to_all import collectives_between
from jax_interp.runtime.block_stream import BlockStream, PartCall, PartResult
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.types import Params, Text

LENGTH_STEP = 128
"""Prompts and caches are padded to multiples of this many tokens, so that prompts of similar length share programs."""

BLOCKS_TOGETHER = 8
"""The number of blocks that one program runs on a token. Python takes 0.14 ms to start a program, and a GPU as long to
read half a block's weights in bfloat16 (Pixtral on an H100), so with a program for each part the GPU waits for Python
as soon as weights have 8 bits. Compiling takes longer the more blocks a program has."""
MAX_CONVERSATION_TOKENS = 1024
"""The tokens of question and answer together that a memory plan counts on, beside those of a picture."""
PREFILL_BYTES = 11
"""Bytes of activations for one hidden unit of one token of a prompt."""

CACHE_SPECS = Cache(P(None, None, "tensor"), P(None, None, "tensor"))  # pyright: ignore[reportArgumentType]
"""The specs of one block's key-value cache on a mesh: its heads are split."""


class Together(NamedTuple):
    """The parameters of blocks that share a program, as few arrays: each costs Python 2 µs whenever it starts one."""

    arrays: list[dict[str, Array]]
    """Those of each part of a block, in order, by their paths, but for those that are in `vectors`."""
    vectors: Float[Array, " V"] | None
    """Scales and gains of all parts, one behind the other; None if they are among `arrays`."""

    def parts(self, abstract: list[Params]) -> list[Params]:
        """Return the parameters of each part, of which `abstract` has the shapes and dtypes."""
        parts, start = [], 0
        for arrays, shapes in zip(self.arrays, abstract, strict=True):
            leaves = dict(arrays)
            for path, leaf in flatten(shapes):
                if path not in leaves:
                    assert self.vectors is not None
                    stop = start + leaf.shape[0]
                    leaves[path] = self.vectors[start:stop].astype(leaf.dtype)
                    start = stop
            parts.append(unflatten(leaves))
        return parts


class LanguageModel(StackedStage[DecoderLM]):
    """A language model that answers one prompt at a time; for each token, Python starts programs, not one loop.

    With a loop inside one program, XLA would copy every block's weights out of their stack before it reads them. Where
    all blocks are on the device, a program runs `BLOCKS_TOGETHER` of them on a token, else every part of a block has
    one, and the same bits come out. The embedding table stays in host memory: a token needs one row of it, and the
    table is as large as two blocks.
    """

    NETWORK = DecoderLM
    QUANTIZES = True
    # A stage has many passes: streamed weights wait in host memory until it ends.
    KEEP_ON_HOST = ("streamed",)
    UNLOAD_HOST = True

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        super().__init__(converted, precision, devices)
        collectives = collectives_between(self.devices)
        self._attend = self.compile_part(
            0,
            lambda block, state, inputs: block.attend(*state, inputs, collectives),
            (REPLICATED, CACHE_SPECS),
            REPLICATED,
        )
        self._transform = self.compile_part(
            1, lambda block, x, _: block.transform(x, collectives), REPLICATED, REPLICATED
        )
        self._collectives = collectives
        self._run_several = self.jit(self._run_blocks_together, donate_argnames=("x", "caches"))
        # Exact: vectors are float32 or bfloat16.
        self._joined = self.jit(lambda vectors: jnp.concatenate([leaf.astype(jnp.float32) for leaf in vectors]))
        self._prompt_inputs = self.jit(self._make_prompt_inputs, static_argnames="size")
        self._token_inputs = self.jit(self._make_token_inputs)
        self._finish = self.jit(self._finish_last)
        self._table: np.ndarray | None = None

    @classmethod
    def host_only(cls, config: DecoderConfig) -> Collection[str]:
        # A tied table is also the output head, which the device needs.
        return () if config.tied_head else ("embedding",)

    @classmethod
    def activations(cls, config: DecoderConfig, size: int, workload: Workload) -> int:
        """The caches of all blocks, and either one block's hidden units for the prompt or a copy of the output head.

        The copy is an operand of XLA's autotuning, and no other product has an operand as large as the head.
        """
        tokens = min(workload.picture_patches + MAX_CONVERSATION_TOKENS, config.context_length)
        cache_bytes = tokens * config.num_layers * 2 * config.num_kv_heads * config.head_width * size
        prefill = tokens * config.mlp_width * PREFILL_BYTES * size // 2
        head = config.vocab_size * config.width * size
        return cache_bytes // workload.mesh.tensor + max(prefill // workload.mesh.tensor, head)

    def embed(self, ids: Sequence[int] | Int[np.ndarray, " S"]) -> Float[np.ndarray, "S D"]:
        """Return the rows of the embedding table for `ids`.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        wanted = np.asarray(ids, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.config.vocab_size:
            raise ValueError(f"token ids {wanted.min()} to {wanted.max()} are not in 0 to {self.config.vocab_size - 1}")
        if self._table is None:
            self._table = self.host_only_array("embedding")
        return self._table[wanted]

    def check_length(self, length: int, max_new_tokens: int) -> None:
        """Raise `UsageError` unless a prompt of `length` tokens and its answer fit the model's context."""
        if not length or length + max_new_tokens > self.config.context_length:
            raise UsageError(
                f"a prompt of {length} tokens and an answer of up to {max_new_tokens} do not fit the"
                f" {self.converted.component}, whose context is {self.config.context_length} tokens; shorten the prompt"
            )

    def answer(
        self,
        prompt: Float[np.ndarray, "S D"],
        *,
        max_new_tokens: int,
        stop: Collection[int],
        sampling: Sampling = GREEDY,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[int]:
        """Return the tokens that follow `prompt`: at most `max_new_tokens`, and none after the first one in `stop`.

        The rows of `prompt` are those of `embed`, or a picture's in their place. `progress` is called with the number
        of tokens so far.

        Raises:
            UsageError: prompt and answer are longer than the model's context.
            JaxInterpError: the model returned values that are not numbers.
        """
        length = len(prompt)
        self.check_length(length, max_new_tokens)
        padded = np.zeros((1, _rounded_up(length), self.config.width), prompt.dtype)
        padded[0, :length] = prompt
        lengths = np.asarray([length], np.int32)
        size = max(padded.shape[1], _rounded_up(length + max_new_tokens))
        try:
            with self.numerics():
                [tokens] = generate_tokens(
                    partial(self._prefill, padded, lengths, size),
                    self._decode,
                    lengths,
                    max_new_tokens=max_new_tokens,
                    stop=stop,
                    sampling=sampling,
                    seed=seed,
                    progress=progress,
                )
        except NotFinite as error:
            raise JaxInterpError(
                f"{self.converted.path}: {error}; check the checkpoint with `jax-interp inspect`"
            ) from error
        return tokens

    def offload(self) -> None:
        super().offload()
        if not self.placement.stays:
            self._table = None

    def unload(self) -> None:
        super().unload()
        self._table = None

    def _prefill(
        self, prompt: Float[np.ndarray, "B S D"], lengths: Int[np.ndarray, " B"], size: int
    ) -> tuple[Logits, list[Cache]]:
        caches = self._empty_caches(size)
        x = self._run(self.devices.put(prompt), caches, self._prompt_inputs(size=prompt.shape[1]))
        return self._logits(x, self.devices.put(lengths)), caches

    def _decode(
        self, ids: Int[Array, " B"], positions: Int[np.ndarray, " B"], caches: list[Cache]
    ) -> tuple[Logits, list[Cache]]:
        # The device waits from here, where it has chosen `ids`, until it gets the first program: what can be done
        # without them comes first. The caller, who is one token behind, detects an invalid choice (`NO_TOKEN`).
        inputs = self._token_inputs(self._for_program(positions))
        rows = self._for_program(self.embed(np.maximum(np.asarray(ids), 0))[:, None])
        together = self.blocks.all_resident and not self._divided
        x = (self._run_together if together else self._run)(rows, caches, inputs)
        return self._logits(x, None), caches

    def _logits(self, x: Text, lengths: Int[Array, " B"] | None) -> Logits:
        """Return the logits after each row's last token, on one device, where the next token is chosen."""
        logits = self._finish(self.outer, x, lengths)
        return logits if self.devices.alone else logits.addressable_data(0)

    def _run(self, x: Text, caches: list[Cache], inputs: DecoderBlockInputs) -> Text:
        """Run every block in turn; `caches` are replaced in place by those with the keys and values of `x`."""

        def apply(call: PartCall, x: Text) -> PartResult[Text]:
            if call.part == 1:
                return self._transform(call.params, x, None, call.ahead)
            result = self._attend(call.params, (x, caches[call.block]), inputs, call.ahead)
            x, caches[call.block] = result.state
            return result._replace(state=x)

        return self.run_blocks(apply, x)

    def _run_together(self, x: Text, caches: list[Cache], inputs: DecoderBlockInputs) -> Text:
        """Do what `_run` does, with blocks that are all on the device, several in a program."""
        blocks = self.blocks
        for first in range(0, len(caches), BLOCKS_TOGETHER):
            some = range(first, min(first + BLOCKS_TOGETHER, len(caches)))
            params = blocks.derived(some, partial(self._params_together, blocks, some))
            x, after = self._run_several(params, x, tuple(caches[block] for block in some), inputs)
            caches[some.start : some.stop] = after
        return x

    def _params_together(self, blocks: BlockStream, some: range) -> Together:
        """Return the parameters of `some` blocks with their vectors in one array, unless several devices share them."""
        leaves = [dict(flatten(blocks.resident_part(block, part))) for block in some for part in (0, 1)]
        if not self.devices.alone:
            return Together(leaves, None)
        vectors = [leaf for part in leaves for leaf in part.values() if leaf.ndim == 1]
        matrices = [{path: leaf for path, leaf in part.items() if leaf.ndim > 1} for part in leaves]
        return Together(matrices, self._joined(vectors))

    def _for_program(self, array: np.ndarray) -> Any:
        """Return an argument of a program: of one device, which the program itself brings there sooner than `put`."""
        return array if self.devices.alone else self.devices.put(array)

    def _empty_caches(self, size: int) -> list[Cache]:
        """Return an empty cache for every block, each in its own buffer, which the block's program updates in place."""
        one_layer = replace(self.config, num_layers=1)
        blank = jax.tree.map(lambda array: array[0], empty_cache(one_layer, 1, size, dtype=self.dtype))
        return [self.devices.put(jax.tree.map(jnp.copy, blank), CACHE_SPECS) for _ in range(self.config.num_layers)]

    # Traced by `jit`.

    def _run_blocks_together(
        self, together: Together, x: Text, caches: tuple[Cache, ...], inputs: DecoderBlockInputs
    ) -> tuple[Text, tuple[Cache, ...]]:
        """Run as many blocks as there are `caches` on a token; return it, and the caches with its keys and values."""

        def run(
            parts: list[Params], x: Text, caches: tuple[Cache, ...], inputs: DecoderBlockInputs
        ) -> tuple[Text, tuple[Cache, ...]]:
            after = []
            for first, second, cache in zip(parts[::2], parts[1::2], caches, strict=True):
                # Nothing is fused across the ends of a part, so it rounds as the part's own program does.
                block = self.network.bind_part(0, first, self._local[0])
                x, cache = jax.lax.optimization_barrier(block.attend(x, cache, inputs, self._collectives))
                block = self.network.bind_part(1, second, self._local[1])
                x = jax.lax.optimization_barrier(block.transform(x, self._collectives))
                after.append(cache)
            return x, tuple(after)

        specs = tuple(CACHE_SPECS for _ in caches)
        arguments = (self._gathered_specs * len(caches), REPLICATED, specs, REPLICATED)
        parts = together.parts(self._local * len(caches))
        return self.on_each_device(run, arguments, (REPLICATED, specs))(parts, x, caches, inputs)

    def _make_prompt_inputs(self, *, size: int) -> DecoderBlockInputs:
        return self.constrain(self._without_params.prompt_inputs(size), REPLICATED)

    def _make_token_inputs(self, positions: Int[Array, " B"]) -> DecoderBlockInputs:
        return self.constrain(self._without_params.token_inputs(positions), REPLICATED)

    @property
    def _without_params(self) -> DecoderLM:
        return self.network.bind_outer(self.network.outer_abstract)

    def _finish_last(self, outer: Params, x: Text, lengths: Int[Array, " B"] | None) -> Logits:
        last = x if lengths is None else last_of(x, lengths)
        return self.constrain(self.network.bind_outer(outer).finish(last)[:, 0], REPLICATED)


def _rounded_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
