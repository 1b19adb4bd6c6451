"""`python -m jax_interp` is `jax-interp`."""

from jax_interp.cli.main import main

main()
