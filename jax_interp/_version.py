"""The version, alone in a file so that `--version` and the build read it without importing JAX."""

__version__ = "0.1.0"
