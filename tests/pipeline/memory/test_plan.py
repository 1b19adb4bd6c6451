"""Predicted memory: parameters to the byte, placements in order of size, and plans that keep within a budget."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from jax_interp.byte_sizes import GIB, parse_bytes
from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, LLAMA_3_1_8B, PIXTRAL_12B, T5_11B, Precision
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.footprint import WORKSPACE, footprint
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD, Planner, describe
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
from jax_interp.pipeline.stage_classes import planned
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.pipeline.stages.language_model import LanguageModel
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Placement

BUDGETS = [round(gibibytes * GIB) for gibibytes in (4.5, 5, 5.5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 80)]
KINDS = ("resident", "offloaded", "streamed")


def planner(transformer=DIT_7B, **workload):
    networks = {
        **planned("text_encoder", T5_11B, "float32"),
        **planned("tokenizer", CV8X8X8_720P, "bfloat16"),
        **planned("diffusion_transformer", transformer, "bfloat16"),
    }
    return Planner(networks, Workload(**workload))


def parameters(stage, config, precision: Precision = "bfloat16"):
    return footprint(stage, config, precision, Workload())


@pytest.mark.parametrize(("config", "width", "num_blocks"), [(DIT_7B, 4096, 28), (DIT_14B, 5120, 36)])
def test_bytes_of_the_transformer(config, width, num_blocks):
    """Counted by hand, from the matrices that SPEC-sized checkpoints hold."""
    attention, cross = 4 * width**2, 2 * width**2 + 2 * width * 1024
    block = attention + cross + 2 * width * 4 * width + 3 * 4 * width * 256 + 4 * 128
    time = width**2 + width * 3 * width + width
    positions, patches, modulation = (128 + 120 + 120) * width, (72 + 64) * width, 3 * width * 256
    outer = time + positions + patches + modulation
    found = parameters(Denoiser, config)
    assert (found.block, found.num_blocks) == (2 * block, num_blocks)
    assert found.outer == 2 * outer
    assert found.params == 2 * (outer + num_blocks * block)
    assert parameters(Denoiser, config, "float32").params == 2 * found.params


def test_bytes_of_the_text_encoder():
    block = 4 * 1024 * 128 * 128 + 2 * 1024 * 65536 + 2 * 1024
    found = parameters(PromptNetwork, T5_11B, "float32")
    assert (found.block, found.num_blocks) == (4 * block, 24)
    assert found.outer == 4 * (32128 * 1024 + 32 * 128 + 1024)
    assert not found.kept_on_host


def test_bytes_of_the_tokenizer():
    assert parameters(Codec, CV8X8X8_720P).params == 2 * 105_654_244


def test_activations_follow_the_workload():
    def activations(**workload):
        return {name: found.activations for name, found in planner(**workload).footprints().items()}

    usual = activations()
    for changes in ({"pairs_per_batch": 2}, {"branches": 2}):
        assert activations(**changes)["diffusion_transformer"] > 1.5 * usual["diffusion_transformer"]
        assert activations(**changes)["tokenizer"] == usual["tokenizer"]  # takes pair after pair
    assert activations(pairs_per_batch=2) == activations(branches=2)
    quarter = activations(height=352, width=640)
    longer = activations(num_video_frames=18)
    for name in ("tokenizer", "diffusion_transformer"):
        assert quarter[name] < 0.5 * usual[name] < 0.5 * longer[name]
    assert quarter["text_encoder"] == longer["text_encoder"] == usual["text_encoder"]


def test_a_workload_of_settings():
    def branches(guidance):
        return InterpolationSettings(sampling=SampleSettings(guidance)).workload().branches

    assert [branches(guidance) for guidance in (-1, 0, 3)] == [1, 1, 2]
    settings = InterpolationSettings(height=64, width=96, num_video_frames=18, pairs_per_batch=2)
    assert settings.workload() == Workload(64, 96, 18, 2, 1)
    assert InterpolationSettings().workload() == Workload()


@pytest.mark.parametrize("transformer", [DIT_7B, DIT_14B])
def test_less_stays_on_the_device_from_kind_to_kind(transformer):
    found = planner(transformer)
    peaks = [found.plan(dict.fromkeys(found.networks, Placement(kind))).peak for kind in KINDS]
    assert peaks[0] >= peaks[1] > peaks[2]
    for name, prints in found.footprints().items():
        in_stage = [prints.in_stage(Placement(kind)) for kind in KINDS]
        at_rest = [prints.at_rest(Placement(kind)) for kind in KINDS]
        assert in_stage[0] == in_stage[1] >= in_stage[2], name
        assert (in_stage[1] > in_stage[2]) == (prints.num_blocks > 0), name
        assert at_rest == [prints.params, 0, 0]


def test_resident_blocks_of_a_streamed_network():
    found = planner().footprints()["diffusion_transformer"]
    in_stage = [found.in_stage(Placement("streamed", blocks)) for blocks in range(30)]
    steps = [later - earlier for earlier, later in pairwise(in_stage)]
    # two blocks pass through the device at a time, and behind the last one there are no more
    assert steps == [found.block] * 26 + [0, 0, 0]
    assert in_stage[-1] == found.in_stage(Placement())


def test_a_stage_has_its_own_network_and_those_that_stay():
    found = planner()
    prints = found.footprints()
    plan = found.plan({"text_encoder": Placement("offloaded"), "diffusion_transformer": Placement("streamed", 3)})
    transformer = prints["diffusion_transformer"]
    assert plan.stages == {
        "text_encoder": prints["text_encoder"].params
        + prints["text_encoder"].activations
        + WORKSPACE
        + prints["tokenizer"].params,
        "tokenizer": prints["tokenizer"].params + prints["tokenizer"].activations + WORKSPACE,
        "diffusion_transformer": transformer.outer
        + 3 * transformer.block
        + 2 * transformer.block
        + transformer.activations
        + WORKSPACE
        + prints["tokenizer"].params,
    }
    assert plan.peak == plan.stages["text_encoder"]
    assert plan.largest_stage == "text_encoder"
    assert plan.process_peak == plan.peak + PROCESS_OVERHEAD


def test_host_memory():
    found = planner()
    prints = found.footprints()
    waiting = {name: prints[name].params for name in ("tokenizer", "diffusion_transformer")}
    assert found.plan({}).host == 0
    assert found.plan({"tokenizer": Placement("offloaded")}).host == waiting["tokenizer"]
    # resident blocks wait there too: they leave the device with their stage
    assert found.plan({"diffusion_transformer": Placement("streamed", 4)}).host == waiting["diffusion_transformer"]
    # the text encoder is read from disk in its stage, the only one of a run
    assert found.plan(dict.fromkeys(found.networks, Placement("streamed"))).host == sum(waiting.values())


@pytest.mark.parametrize("transformer", [DIT_7B, DIT_14B])
@pytest.mark.parametrize("workload", [{}, {"branches": 2}, {"height": 352, "width": 640}])
@pytest.mark.parametrize("num_pairs", [1, 2])
def test_plans_keep_within_the_budget_and_use_it(transformer, workload, num_pairs):
    found = planner(transformer, **workload)
    smallest = found.smallest().process_peak
    ranks = []
    for budget in (budget for budget in BUDGETS if budget >= smallest):
        plan = found.within(budget, num_pairs=num_pairs)
        assert plan.process_peak <= budget
        assert plan == found.plan(plan.placements, plan.workload.pairs_per_batch)
        assert plan.workload == replace(found.workload, pairs_per_batch=plan.workload.pairs_per_batch)
        ranks.append(rank(plan))
    assert len(ranks) > 5
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1]


def rank(plan):
    """How fast a plan is: the larger the faster."""
    speed = {kind: -place for place, kind in enumerate(KINDS)}
    kinds = tuple(speed[plan.placements[name].kind] for name in ("diffusion_transformer", "tokenizer", "text_encoder"))
    return *kinds, plan.workload.pairs_per_batch, plan.placements["diffusion_transformer"].resident_blocks


def test_a_little_less_than_a_plan_takes_gives_a_slower_one():
    found = planner()
    plan = found.within(12 * GIB)
    assert rank(found.within(plan.process_peak)) == rank(plan)
    assert rank(found.within(plan.process_peak - 1)) < rank(plan)


def test_resident_blocks_grow_with_the_budget_until_the_whole_network_fits():
    found = planner()
    plans = [found.within(gibibytes * GIB, pairs_per_batch=1) for gibibytes in range(5, 15)]
    assert {plan.placements["diffusion_transformer"].kind for plan in plans} == {"streamed"}
    blocks = [plan.placements["diffusion_transformer"].resident_blocks for plan in plans]
    assert blocks == sorted(set(blocks))
    block = found.footprints()["diffusion_transformer"].block
    for plan, budget in zip(plans, range(5, 15), strict=True):
        assert plan.stages["diffusion_transformer"] + PROCESS_OVERHEAD + block > budget * GIB


def test_pairs_share_a_pass_only_where_weights_are_streamed():
    found = planner()
    assert found.within(80 * GIB, num_pairs=9).workload.pairs_per_batch == 1
    streamed = found.within(8 * GIB, num_pairs=9)
    assert (streamed.placements["diffusion_transformer"].kind, streamed.workload.pairs_per_batch) == ("streamed", 2)
    assert found.within(8 * GIB, num_pairs=1).workload.pairs_per_batch == 1
    assert found.within(80 * GIB, num_pairs=9, pairs_per_batch=3).workload.pairs_per_batch == 3


def test_fixed_placements_are_kept():
    found = planner()
    for budget in (8 * GIB, 80 * GIB):
        fixed = {"diffusion_transformer": Placement("streamed", 2), "tokenizer": Placement("offloaded")}
        plan = found.within(budget, fixed)
        assert {name: plan.placements[name] for name in fixed} == fixed
        assert plan.process_peak <= budget
    assert found.within(80 * GIB, fixed).placements["text_encoder"] == Placement()
    assert found.within(8 * GIB, fixed).placements["text_encoder"] == Placement("streamed")


def test_too_little_is_refused_with_the_smallest_plan():
    found = planner()
    smallest = found.smallest()
    with pytest.raises(UsageError) as refused:
        found.within(2 * GIB)
    message = str(refused.value)
    assert message.startswith("2.0 GiB of GPU memory are too little: the smallest plan at 704×1280 takes")
    assert describe(smallest) in message
    named = re.search(r"takes ([\d.]+ GiB)", message)
    assert named
    assert found.within(parse_bytes(named[1])).process_peak <= parse_bytes(named[1])
    # where another stage is the largest, a block more may stay for free
    assert found.within(smallest.process_peak).process_peak == smallest.process_peak
    with pytest.raises(UsageError):
        found.within(smallest.process_peak - 1)


def test_too_little_for_what_the_caller_insists_on():
    with pytest.raises(UsageError, match="diffusion_transformer resident"):
        planner().within(8 * GIB, {"diffusion_transformer": Placement()})


def test_without_a_text_encoder():
    whole = planner()
    networks = {name: network for name, network in whole.networks.items() if name != "text_encoder"}
    plan = replace(whole, networks=networks).within(24 * GIB)
    assert set(plan.stages) == set(plan.placements) == set(networks)
    assert {placement.kind for placement in plan.placements.values()} == {"resident"}


def test_strategies_follow_upstreams_order():
    found = planner()
    plans = found.strategies()
    assert list(plans) == [
        "nothing offloaded",
        "+ text_encoder",
        "+ tokenizer",
        "+ diffusion_transformer",
        "all streamed, 1 a pass",
        "all streamed, 2 a pass",
    ]
    offloaded = [sum(p.kind == "offloaded" for p in plan.placements.values()) for plan in plans.values()]
    assert offloaded == [0, 1, 2, 3, 0, 0]
    peaks = [plan.peak for plan in plans.values()]
    assert peaks[0] >= peaks[1] >= peaks[2] > peaks[3] > peaks[5] > peaks[4]
    assert [plan.workload.pairs_per_batch for plan in plans.values()] == [1, 1, 1, 1, 1, 2]
    assert [plan.workload.pairs_per_batch for plan in found.strategies(3).values()] == [3] * 5


def test_a_plan_in_one_line():
    plan = planner().plan({"tokenizer": Placement("offloaded"), "diffusion_transformer": Placement("streamed", 5)}, 2)
    assert describe(plan) == (
        "text_encoder resident, tokenizer offloaded, diffusion_transformer streamed, 5 blocks resident; 2 pairs a pass"
    )


def test_devices_divide_what_they_share():
    """Counted for one of four that split the tokens, and for one of two that split the weights."""
    alone, four, two = planner(), planner(mesh=MeshShape(sequence=4)), planner(mesh=MeshShape(tensor=2))
    name = "diffusion_transformer"
    one, shared, split = (each.footprints()[name] for each in (alone, four, two))
    assert (shared.params, shared.outer, shared.block) == (one.params, one.outer, one.block)
    assert shared.activations == one.activations // 4
    assert shared.shard == pytest.approx(one.block / 4, rel=1e-4)  # norms are not divided
    assert split.block == split.shard == pytest.approx(one.block * 0.525, rel=1e-3)  # nor the modulation, by tensor
    three = planner(mesh=MeshShape(sequence=3)).footprints()[name]
    assert 0.97 * one.block < three.shard < one.block  # of 4096 rows or columns there are no thirds
    resident = four.plan({}).stages[name]
    sharded = four.plan({name: Placement("sharded")}).stages[name]
    # a quarter of each block, and two halves of one put together
    assert resident - sharded == one.num_blocks * (one.block - shared.shard) - one.block
    streamed = shared.in_stage(Placement("streamed"))
    assert streamed == one.outer + 2 * shared.shard + one.block + shared.activations + WORKSPACE


def test_rows_of_a_device():
    def rows(pairs, branches, **mesh):
        return Workload(pairs_per_batch=pairs, branches=branches, mesh=MeshShape(**mesh)).rows

    assert rows(2, 1) == rows(2, 1, data=4) == rows(1, 2) == 2
    assert rows(1, 2, data=2) == rows(1, 2, data=4) == 1
    assert rows(1, 2, data=3) == 2  # three pairs in two branches on three devices


def test_dividing_is_chosen_before_moving():
    name = "diffusion_transformer"
    four = planner(mesh=MeshShape(data=2, sequence=2))
    sharded = {"text_encoder": Placement("streamed"), name: Placement("sharded")}
    needed = four.plan(sharded).process_peak
    assert four.within(needed).placements[name].kind == "sharded"
    assert four.within(needed - 2**28).placements[name].kind != "resident"
    assert planner().within(needed).placements[name].kind == "streamed"
    assert "all sharded" in four.strategies()
    assert "all sharded" not in planner().strategies()


UPSAMPLER = planned("prompt_upsampler", PIXTRAL_12B, "bfloat16")


def with_upsampler():
    """The planner of a run that writes its prompt."""
    return Planner({**UPSAMPLER, **planner().networks}, Workload())


def test_networks_of_one_name_are_placed_together():
    found = with_upsampler()
    assert found.names == ["prompt_upsampler", "text_encoder", "tokenizer", "diffusion_transformer"]
    resident, streamed = (found.plan({"prompt_upsampler": Placement(kind)}) for kind in ("resident", "streamed"))
    assert set(resident.placements) == set(found.names)
    language = found.footprints()["prompt_upsampler/language"]
    assert resident.stages["tokenizer"] - streamed.stages["tokenizer"] == pytest.approx(
        sum(each.params for name, each in found.footprints().items() if name in UPSAMPLER)
    )
    assert streamed.host == language.params


def test_the_embedding_table_is_no_part_of_what_the_gpu_holds():
    """A block, by hand: queries and output, keys and values of 8 heads, the gated MLP, two norms."""
    text = PIXTRAL_12B.text
    block = 2 * 5120 * 4096 + 2 * 5120 * 1024 + 3 * 5120 * 14336 + 2 * 5120
    found = parameters(LanguageModel, text)
    assert (found.block, found.outer) == (2 * block, 2 * (5120 * 131072 + 5120))
    assert found.params == 2 * (40 * block + 5120 * 131072 + 5120)


def test_language_models_take_turns_in_host_memory():
    both = Planner({**UPSAMPLER, **planned("text_safety", LLAMA_3_1_8B, "bfloat16")}, Workload())
    plan = both.plan(dict.fromkeys(both.names, Placement("streamed")))
    assert plan.host == parameters(LanguageModel, PIXTRAL_12B.text).params


def test_what_a_run_uses_least_leaves_first():
    plans = [with_upsampler().within(budget * GIB) for budget in (80, 50, 38)]
    kinds = [{name: placed.kind for name, placed in plan.placements.items()} for plan in plans]
    assert [found["prompt_upsampler"] for found in kinds] == ["resident", "offloaded", "streamed"]
    assert {found["diffusion_transformer"] for found in kinds} == {"resident"}


def test_guardrails_take_one_device_whatever_the_mesh():
    networks = {
        **planned("text_safety", LLAMA_3_1_8B, "bfloat16"),
        **planned("diffusion_transformer", DIT_7B, "bfloat16"),
    }
    alone, spread = (Planner(networks, Workload(mesh=mesh)).footprints() for mesh in (MeshShape(), MeshShape(tensor=2)))
    assert spread["guardrail_models/text_safety"] == alone["guardrail_models/text_safety"]
    assert spread["diffusion_transformer"].block < alone["diffusion_transformer"].block


def test_a_clip_in_pieces_takes_the_tokenizer_no_more_however_long():
    def activations(frames, **changes):
        workload = replace(Video2WorldSettings(num_video_frames=frames).workload(), **changes)
        return planner().footprints(workload)["tokenizer"].activations

    assert activations(33) == activations(121)
    assert activations(121, in_pieces=False) > 3 * activations(121)


def test_branches_of_a_clip_share_the_memory_of_one():
    alone, apart = (Video2WorldSettings().workload(MeshShape(data=data)) for data in (1, 2))
    assert (alone.branches, apart.branches) == (1, 2)
    assert alone.rows == apart.rows == 1
