"""What the commands show: log lines and progress bars, on standard error."""

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

stderr = Console(stderr=True)


def show_log(level: int = logging.INFO) -> None:
    """Send the package's log lines to the console."""
    handler = RichHandler(console=stderr, show_time=False, show_path=False, show_level=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("jax_interp")
    logger.handlers = [handler]
    logger.propagate = False  # JAX's libraries give the root logger a handler, which would print every line again
    logger.setLevel(level)


def be_quiet() -> None:
    """Show errors only: of several processes the first one speaks."""
    logging.getLogger("jax_interp").setLevel(logging.ERROR)
    stderr.quiet = True


def progress_bar() -> Progress:
    """A bar with counts, time spent and time left; vanishes when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
    )
