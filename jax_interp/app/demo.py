"""The demo's networks and its clip for `jax-interp app --demo`: toy networks that run on any machine."""

from dataclasses import replace
from importlib import resources
from pathlib import Path

from jax_interp.app.settings import AppSettings

NETWORKS = "demo-networks"
HEIGHT, WIDTH, STRIDE, STEPS = 192, 320, 9, 1
"""As in `make demo`: of every nine frames of the clip only the first is used, and the eight between are generated."""


def with_demo(app: AppSettings) -> AppSettings:
    """Return `app` for the demo: its networks, which have no guardrails, its clip, and the settings that suit both."""
    return replace(
        app,
        networks=replace(app.networks, checkpoint_dir=app.folder / NETWORKS),
        guardrails=None,
        height=HEIGHT,
        width=WIDTH,
        num_steps=STEPS,
        frame_stride=STRIDE,
        example=_assets() / "clip.mp4",
    )


def convert_demo(app: AppSettings) -> None:
    """Convert the demo's networks into the folder that `with_demo` names, unless they are there."""
    from convert.conversion import ConversionRequest, convert_checkpoints

    request = ConversionRequest(
        checkpoint_dir=_assets() / "checkpoints", output_dir=app.networks.checkpoint_dir, md5="skip"
    )
    convert_checkpoints(request)


def _assets() -> Path:
    return Path(str(resources.files("jax_interp") / "demo"))
