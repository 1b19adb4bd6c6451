"""PyTorch checkpoints to Flax parameter trees and back, without torch and without running a pickle.

The four functions here do what `jax-interp download`, `convert`, `inspect` and `export` do. Each imports what it needs
when it is called, so that `import convert` costs nothing and imports no JAX.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from convert.hub.download import DownloadPlan
    from convert.inspection import Finding
    from convert.progress import Progress
    from convert.request import Calibrate

__all__ = ["convert", "download", "export", "inspect"]


def download(
    checkpoint_dir: str | Path,
    *,
    components: Collection[str] = (),
    model_sizes: Collection[str] = ("7B",),
    model_types: Collection[str] = ("WorldInterpolator",),
    revisions: Mapping[str, str] | None = None,
    check_md5: bool = True,
    dry_run: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> "DownloadPlan":
    """Fetch published checkpoints from the Hugging Face hub into `checkpoint_dir`, and verify them.

    ```python
    plan = convert.download("checkpoints", components=["tokenizer"], dry_run=True)
    print(plan.to_fetch, plan.free)     # bytes
    ```

    `components` are names of the table in `jax_interp.components`; without them it is everything that a run of the
    transformers of `model_sizes` and `model_types` needs, about 80 GB for 7B. `revisions` maps a repository's id to
    the branch, tag or commit that is wanted. Most repositories ask for a token (`HF_TOKEN`) and for their terms to be
    accepted. With `dry_run` nothing is fetched. `progress` hears the name of a file and how many bytes of it arrived, 0
    when its checksum is about to be computed.

    What has arrived is kept when a download is interrupted; the same call goes on from there. Returns what there was
    to do: files, their sizes, and the space that was free.

    Raises:
        UsageError: a component, size or type does not exist.
        DownloadError: access is refused, the disk is too small, the hub is out of reach, or a file is damaged.
    """
    from convert.hub.catalog import select
    from convert.hub.client import Hub
    from convert.hub.download import download as fetch
    from convert.hub.download import plan_download

    repositories = select(model_sizes, model_types, components)
    hub = Hub()
    plan = plan_download(hub, Path(checkpoint_dir), repositories, revisions or {})
    if not dry_run:
        tell = progress or (lambda name, count: None)
        fetch(hub, plan, lambda file, count: tell(file.key, count), check_md5)
    return plan


def convert(
    checkpoint_dir: str | Path,
    output_dir: str | Path,
    *,
    components: Collection[str] = (),
    folders: Mapping[str, str] | None = None,
    dtype: Literal["bfloat16", "float32"] | None = None,
    weights: Literal["model", "ema"] | None = None,
    md5: Literal["warn", "require", "skip"] = "warn",
    overwrite: bool = False,
    allow_non_finite: bool = False,
    quantization: Literal["none", "int8", "int8-rotated", "int8-smoothed"] = "none",
    calibrate: "Calibrate | None" = None,
    progress: "Progress | None" = None,
) -> list[Path]:
    """Convert PyTorch checkpoints in `checkpoint_dir` to what `jax_interp.Interpolator.from_pretrained` opens.

    ```python
    convert.convert("checkpoints", "converted", components=["tokenizer"])
    interpolator = jax_interp.Interpolator.from_pretrained("converted")
    ```

    `components` are names of the table in `jax_interp.components`, by default all that are there; `folders` says where
    one lies, relative to `checkpoint_dir`, if not in upstream's folder. `dtype` is what floating tensors become, None
    leaves each as it is. `weights` chooses between the sets of a post-trained file. `md5` says what happens to a file
    whose MD5 is not the published one. `quantization` "int8" stores large weights in 8 bits, where a network has such:
    half the size, and the values that running it with `quantization="int8"` would make of them; so does "int8-rotated",
    with a rotation for networks with few large channels. With `calibrate`, a `jax_interp.Calibrator`, transformers are
    run on a clip, by which factors for their channels are chosen (int8-smoothed). `progress(label, bytes)` begins a job
    and gives a context whose value is told the bytes done.

    Networks that are converted already are left alone. Each appears under its name only when it is complete, and all
    checks of all networks come before the first write. Returns the converted folders.

    Raises:
        UsageError: a component or folder name cannot be, two arguments contradict each other, or a calibration lacks
            what it takes.
        MediaError: the clip of a calibration cannot be read, or has fewer than two frames.
        CheckpointError: files are missing, damaged or not of the network, hold weights that are not finite, differ from
            what is converted already, or the disk is or would be full.
    """
    from convert.conversion import ConversionRequest, convert_checkpoints
    from convert.progress import no_progress

    request = ConversionRequest(
        checkpoint_dir=Path(checkpoint_dir),
        output_dir=Path(output_dir),
        components=tuple(components),
        folders=folders or {},
        dtype=dtype,
        weights=weights,
        md5=md5,
        overwrite=overwrite,
        allow_non_finite=allow_non_finite,
        quantization=quantization,
        calibrate=calibrate,
    )
    return convert_checkpoints(request, progress or no_progress)


def export(
    converted_dir: str | Path,
    output_dir: str | Path,
    *,
    components: Collection[str] = (),
    overwrite: bool = False,
    progress: "Progress | None" = None,
) -> list[Path]:
    """Write converted networks as safetensors files with PyTorch's names and layouts; the inverse of `convert`.

    ```python
    convert.export("converted", "exported", components=["tokenizer"])
    ```

    `components` are names of the table in `jax_interp.components`, by default all that are there; `progress` is that
    of `convert`. Dtypes stay as they are, and converting the result gives the same parameters, bit for bit. Returns the
    folders that were written.

    Raises:
        UsageError: a component does not exist, or a network is stored in 8 bits.
        CheckpointError: there is nothing to export, a network is incomplete or damaged, its target is there already, or
            the disk is or would be full.
    """
    from convert.exporting import export_checkpoints
    from convert.progress import no_progress

    return export_checkpoints(
        Path(converted_dir),
        Path(output_dir),
        tuple(components),
        overwrite=overwrite,
        progress=progress or no_progress,
    )


def inspect(path: str | Path, *, checksums: "Progress | None" = None) -> "list[Finding]":
    """Say what a folder or file holds, converted or not, and what is missing; no weights are read.

    ```python
    for finding in convert.inspect("converted"):
        print(finding.path, finding.kind, finding.parameters, finding.faults or "complete")
    ```

    With `checksums`, a `progress` as that of `convert`, unconverted files are read for their SHA-256 and MD5.

    Raises:
        CheckpointError: there is nothing, or a file is of none of the formats that are read.
    """
    from convert.inspection import inspect_path

    return inspect_path(Path(path), checksums)
