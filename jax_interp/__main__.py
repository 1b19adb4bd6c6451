"""The command `jax-interp`, and `python -m jax_interp`."""

from jax_interp.cli.terminal.failures import explained, prepare_process


def main() -> None:
    """Run the command line. The rest of the program is imported where Ctrl-C is answered already."""
    prepare_process()
    with explained():
        from jax_interp.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
