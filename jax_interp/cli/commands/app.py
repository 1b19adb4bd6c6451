"""The command `jax-interp app`, which serves a page to use the networks from."""

from importlib.util import find_spec
from typing import Annotated

import typer

from jax_interp.app.demo import with_demo
from jax_interp.app.settings import AppSettings
from jax_interp.cli.commands.clip_request import network_settings
from jax_interp.cli.options.app import AccessOptions, KeepingOptions
from jax_interp.cli.options.devices import DeviceOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import MemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions
from jax_interp.errors import UsageError
from jax_interp.files.names import check_folder

_SAMPLING = Under(
    "Networks",
    only=("height", "width", "num_steps", "text_encoder_dtype"),
    help={
        "height": "Height of the network's pictures where a user chooses none.",
        "width": "Their width.",
        "num_steps": "Solver steps that the form begins with.",
    },
)


@with_options
def app(
    *,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use the demo's toy networks and its clip, on any machine.")
    ] = False,
    access: Annotated[AccessOptions, Under("Access")],
    keeping: Annotated[KeepingOptions, Under("Limits")],
    networks: Annotated[NetworkOptions, Under("Networks")],
    sampling: Annotated[SamplingOptions, _SAMPLING],
    guardrails: Annotated[GuardrailOptions, Under("Guardrails")],
    memory: Annotated[MemoryOptions, Under("Memory")],
    devices: Annotated[DeviceOptions, Under("Several GPUs", only=("num_gpus", "mesh"))],
    reports: ReportOptions,
) -> None:
    """Serve a page, and an API, to interpolate and to continue clips from a browser.

    Only this machine reaches it unless --listen says otherwise.
    """
    reports.begin()
    if demo and networks != NetworkOptions(folders=dict.fromkeys(networks.folders)):
        raise UsageError("--demo brings its own networks; leave out --checkpoint-dir and the options for others")
    check_folder("--data-dir", keeping.data_dir)
    settings = AppSettings(
        folder=keeping.data_dir,
        access=access.access(),
        limits=keeping.limits(),
        networks=network_settings(networks, sampling, TextOptions()),
        guardrails=guardrails.wanted(networks.folders),
        memory=memory.settings(),
        devices=devices.devices(),
        height=sampling.height,
        width=sampling.width,
        num_steps=sampling.num_steps,
    )
    if find_spec("gradio") is None:
        raise UsageError('the page needs Gradio: pip install -e ".[app]" in the clone')
    from jax_interp.cli.runs.app import run

    run(with_demo(settings) if demo else settings, demo=demo)
