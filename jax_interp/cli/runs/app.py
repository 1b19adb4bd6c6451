"""The run of `jax-interp app`: it checks that networks are there, and serves until a signal ends it."""

import logging

from jax_interp.app import machine
from jax_interp.app.demo import convert_demo
from jax_interp.app.settings import AppSettings
from jax_interp.app.web.server import serve
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.finding import find_transformer
from jax_interp.terminal import show

logger = logging.getLogger("jax_interp")


def run(app: AppSettings, *, demo: bool) -> None:
    """Serve the page of `app`.

    Raises:
        CheckpointError: no transformer is there.
        JaxInterpError: another server uses the folder.
        UsageError: the port is taken.
        OSError: others can write to the folder.
    """
    if demo:
        logger.info("converting the demo's networks")
        convert_demo(app)
    if not machine.has_transformer(app, "WorldInterpolator") and not machine.has_transformer(app, "Video2World"):
        find_transformer(app.networks.checkpoint_dir, "WorldInterpolator", app.networks.folder("diffusion_transformer"))
        raise CheckpointError(f"{app.networks.checkpoint_dir}: has no transformer that can be used")
    if app.access.is_behind_proxy:
        logger.warning(
            "--share-nothing: this server asks nobody for a password; whoever reaches port %d can use it. Let a proxy"
            " in front of it decide who comes in, and encrypt what is sent",
            app.access.port,
        )
    if app.guardrails is None and not demo:
        logger.warning("guardrail: off. Neither prompts nor frames are checked")
    serve(app, lambda address: show(f"open {address} in a browser; Ctrl-C ends the server", address=address))
