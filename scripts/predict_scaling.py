"""Write the tables of docs/several-gpus.md: bytes and arithmetic by formula, measurements, and predictions from both.

```
python -m scripts.predict_scaling                                # print them
python -m scripts.predict_scaling --inside 200 --network 12.5    # for other links, in GB/s of one GPU
python -m scripts.predict_scaling --write                        # into docs/several-gpus.md
```

Speeds that are not given are those in benchmarks/results/scaling.jsonl, and where there are none those of
`benchmarks.scaling.model.ASSUMED`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

from benchmarks.scaling.block_costs import BlockCosts
from benchmarks.scaling.model import ASSUMED, GPUS_PER_HOST, Machine, break_even, predict
from benchmarks.scaling.results import RESULTS, Scaling, read
from jax_interp.config import DIT_7B, DIT_14B, DiTConfig
from jax_interp.runtime.mesh_shape import MeshShape
from scripts.result_lines import table

DOCUMENT = Path(__file__).parents[1] / "docs/several-gpus.md"
SIZES = (2, 4, 8, 16, 64)
CALLS = 36
"""The number of evaluations of a pair."""
NETWORKS = (100.0, 50.0, 25.0, 12.5)
"""Links between hosts that the tables compare, in GB/s of one GPU: NDR InfiniBand is 50."""
ONE_GPU = {"evaluation", "undivided", "host"}
"""The fields of `ASSUMED` that were measured, on one H100."""
SAID = {
    "evaluation": "{:.0f} ms an evaluation",
    "undivided": "{:.0f} ms of a pair outside the denoiser",
    "inside": "{:.0f} GB/s out of a GPU in an all-to-all within the host",
    "gather": "{:.0f} GB/s into a GPU in an all-gather",
    "host": "{:.0f} GB/s from the host's memory to a GPU",
    "network": "{:g} GB/s from a GPU to other hosts",
    "latency": "{:.0f} µs for an exchange of nothing within a host",
    "network_latency": "{:.0f} µs between hosts",
    "dispatch": "{:.0f} µs to start a program",
    "memory": "{:.0f} GB/s of GPU memory",
}


def machine_from(scaling: Scaling | None, given: dict[str, float]) -> tuple[Machine, set[str]]:
    """Return the machine to predict from, and the names of what was measured on several GPUs."""
    found: dict[str, float] = {}
    if scaling and 1 in scaling.evaluation:
        found["evaluation"] = scaling.evaluation[1]
    if scaling and scaling.undivided is not None:
        found["undivided"] = scaling.undivided
    if scaling and scaling.links:
        widest = scaling.links[max(scaling.links)]
        found["dispatch"] = 1e6 * widest["dispatch_seconds"]
        if widest["links"]:
            for name, link in {"inside": "all_to_all", "gather": "all_gather", "host": "host_to_device"}.items():
                found[name] = widest["links"][link]["gb_per_s"]
            found["latency"] = 1e6 * widest["links"]["all_to_all_small"]["seconds"]
    if scaling and "H200" in scaling.device:
        given = {"memory": 4800.0, **given}
    return replace(ASSUMED, **{**found, **given}), found.keys() - given.keys()


def volumes() -> str:
    """Yield the megabytes of a block on one GPU by policy, for both networks."""
    return "\n".join(
        f"{name}, one block:\n\n" + table(("MB a GPU", *(f"n = {n}" for n in SIZES)), volume_rows(config))
        for name, config in (("7B", DIT_7B), ("14B", DIT_14B))
    )


def volume_rows(config: DiTConfig) -> Iterator[list[str]]:
    """Yield one row for each policy; a dash where `tensor` does not divide the heads."""
    costs = [BlockCosts(config, MeshShape(sequence=n)) for n in SIZES]
    tensors = [None if config.num_heads % n else BlockCosts(config, MeshShape(tensor=n)) for n in SIZES]
    yield ["`data=n`", *["0"] * len(SIZES)]
    yield ["`sequence=n`: sent in all-to-alls", *(_mb(cost.sent_by_exchange) for cost in costs)]
    yield ["`tensor=n`: sent in 3 all-reduces", *(_mb(cost.sent_by_sums) if cost else "–" for cost in tensors)]
    yield ["weights in n shards: received in a gather", *(_mb(cost.received_by_gather) for cost in costs)]
    yield ["the same, streamed: also copied from the host", *(_mb(cost.shard) for cost in costs)]


def arithmetic() -> str:
    """Yield the TFLOP of a block on one GPU with `sequence=n`."""
    rows = []
    for name, config in (("7B", DIT_7B), ("14B", DIT_14B)):
        alone = BlockCosts(config, MeshShape()).flop
        parts = [BlockCosts(config, MeshShape(sequence=n)).flop for n in SIZES]
        cells = [f"{flop / 1e12:.3f} ({n * flop / alone:.2f})" for n, flop in zip(SIZES, parts, strict=True)]
        rows.append([name, f"{alone / 1e12:.3f}", *cells])
    return table(("TFLOP a GPU", "n = 1", *(f"n = {n}" for n in SIZES)), rows)


def predictions(machine: Machine, measured: set[str], device: str | None) -> str:
    """Yield evaluations and pairs of the 7B network on more GPUs."""
    parts = [
        said(machine, measured, device),
        "One pair, `sequence=n`, ms of an evaluation (times faster than one GPU):\n\n"
        + table(("link between hosts", *(f"n = {n}" for n in SIZES)), speed_rows(machine)),
        f"Where it goes, with {machine.network:g} GB/s between hosts:\n\n"
        + table(
            ("mesh", "arithmetic", "exchanges", "starting programs", "an evaluation", "a pair", "faster"),
            detail_rows(machine),
        ),
        stops_paying(machine),
        "Weights divided among the GPUs of one host, an evaluation:\n\n"
        + table(
            ("mesh", "arithmetic", "gathering", "copying", "resident", "sharded", "streamed"), weight_rows(machine)
        ),
        "Many pairs:\n\n"
        + table(("GPUs", "mesh", "pairs at a time", "pairs a minute", "seconds until a pair is done"), many(machine)),
    ]
    return "\n".join(parts)


def said(machine: Machine, measured: set[str], device: str | None) -> str:
    """What the predictions start from, measured and assumed apart."""

    def named(names: Iterable[str]) -> str:
        return ", ".join(words.format(getattr(machine, name)) for name, words in SAID.items() if name in set(names))

    parts = [f"Measured on {device}: {named(measured)}."] if measured else []
    once = {name for name in ONE_GPU - measured if getattr(machine, name) == getattr(ASSUMED, name)}
    parts += [f"Measured on one H100: {named(once)}."] if once else []
    return " ".join([*parts, f"**Assumed:** {named(SAID.keys() - measured - once)}.\n"])


def speed_rows(machine: Machine) -> Iterator[list[str]]:
    """Yield one row for each link between hosts."""
    for network in sorted({*NETWORKS, machine.network}, reverse=True):
        there = replace(machine, network=network)
        times = [predict(DIT_7B, MeshShape(sequence=n), there).resident for n in SIZES]
        yield [f"{network:g} GB/s a GPU", *(f"{took:.1f} ({machine.evaluation / took:.1f})" for took in times)]


def detail_rows(machine: Machine) -> Iterator[list[str]]:
    """Yield one row for each mesh: along one axis, and along both."""
    meshes = [MeshShape(sequence=n) for n in SIZES]
    meshes += [MeshShape(tensor=8), MeshShape(sequence=2, tensor=8), MeshShape(sequence=8, tensor=8)]
    for shape in meshes:
        found = predict(DIT_7B, shape, machine)
        pair = CALLS * found.resident + machine.undivided
        alone = CALLS * machine.evaluation + machine.undivided
        times = (found.arithmetic, found.exchanges, found.dispatch, found.resident)
        yield [f"`{_axes(shape)}`", *(f"{took:.1f} ms" for took in times), f"{pair / 1e3:.2f} s", f"{alone / pair:.1f}"]


def weight_rows(machine: Machine) -> Iterator[list[str]]:
    """A row for every number of GPUs in one host, one pair over all or a pair on each."""
    for shape in [MeshShape(**{axis: n}) for axis in ("sequence", "data") for n in SIZES if n <= GPUS_PER_HOST]:
        found = predict(DIT_7B, shape, machine)
        times = (found.arithmetic, found.gathering, found.copying, found.resident, found.sharded, found.streamed)
        yield [f"`{_axes(shape)}`", *(f"{took:.1f} ms" for took in times)]


def stops_paying(machine: Machine) -> str:
    """Yield the link from which on more hosts are faster than one for one pair."""
    said = [
        f"{gpus} are faster from {speed:.1f} GB/s a GPU on" if speed else f"{gpus} are not faster with any link"
        for gpus in SIZES
        if gpus > GPUS_PER_HOST
        for speed in [break_even(gpus, machine)]
    ]
    return f"For one pair, beside {GPUS_PER_HOST} GPUs of one host: {', '.join(said)}.\n"


def many(machine: Machine) -> Iterator[list[str]]:
    """Yield one row for each way to run more than one pair."""
    for gpus in (8, 16, 64):
        for sequence in sorted({1, GPUS_PER_HOST, gpus}):
            shape = MeshShape(data=gpus // sequence, sequence=sequence)
            seconds = (CALLS * predict(DIT_7B, shape, machine).resident + machine.undivided) / 1e3
            rate = f"{60 * shape.data / seconds:.0f}"
            yield [str(gpus), f"`{_axes(shape)}`", str(shape.data), rate, f"{seconds:.1f}"]


def measured_table(scaling: Scaling | None, machine: Machine) -> str:
    """What was measured, beside what the formulas say of the same."""
    if scaling is None or scaling.most == 1:
        return "Nothing has been measured on several GPUs yet.\n"
    rows = []
    for gpus, took in sorted(scaling.evaluation.items()):
        predicted = predict(DIT_7B, MeshShape(sequence=gpus), machine).resident
        pair = f"{scaling.pair[gpus] / 1e3:.2f} s" if gpus in scaling.pair else ""
        rows.append([str(gpus), f"{took:.1f} ms", f"{predicted:.1f} ms", pair])
    parts = [table(("GPUs, `sequence=n`", "an evaluation", "predicted", "a pair"), rows)]
    lines = {gpus: line["links"] for gpus, line in sorted(scaling.links.items()) if line["links"]}
    names = sorted({name for links in lines.values() for name in links if not name.endswith("small")})
    links = [[name.replace("_", "-"), *(f"{lines[gpus][name]['gb_per_s']:.0f}" for gpus in lines)] for name in names]
    if links:
        parts.append(table(("GB/s of each GPU, all at once", *(f"{gpus} GPUs" for gpus in lines)), links))
    return f"{scaling.device}, one host:\n\n" + "\n".join(parts)


def sections(scaling: Scaling | None, given: dict[str, float]) -> dict[str, str]:
    """Return the text between each pair of marks of the document."""
    machine, measured = machine_from(scaling, given)
    return {
        "volumes": volumes(),
        "arithmetic": arithmetic(),
        "measured": measured_table(scaling, machine),
        "predictions": predictions(machine, measured, scaling.device if scaling else None),
    }


def updated(document: str, tables: dict[str, str]) -> str:
    """Return `document` with `tables` between its marks."""
    for name, content in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, rest = document.split(begin)
        _, after = rest.split(end)
        document = f"{before}{begin}\n{content}{end}{after}"
    return document


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--results", type=Path, default=RESULTS)
    arguments.add_argument("--write", action="store_true")
    for field in fields(Machine):
        arguments.add_argument(f"--{field.name.replace('_', '-')}", type=float)
    options = arguments.parse_args()
    given = {field.name: getattr(options, field.name) for field in fields(Machine)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.write and given:
        sys.exit("--write takes no speeds: docs/several-gpus.md shows measured ones, and what is assumed without them")
    tables = sections(read(options.results), given)
    if options.write:
        DOCUMENT.write_text(updated(DOCUMENT.read_text(), tables))
    else:
        print("\n".join(tables.values()), end="")


def _axes(shape: MeshShape) -> str:
    return ",".join(f"{axis}={size}" for axis, size in vars(shape).items() if size > 1)


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()
