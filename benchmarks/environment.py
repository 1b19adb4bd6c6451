"""What a measurement was made with: commit, versions and device, for the head of every JSON line."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "torch", "diffusers", "transformers", "peft")


def environment() -> dict[str, Any]:
    """Return the commit (`JAX_INTERP_COMMIT` where there is no repository), package versions and the device."""
    import jax

    device = jax.devices()[0]
    return {
        "commit": os.environ.get("JAX_INTERP_COMMIT") or _commit(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }


def _commit() -> str:
    return _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
