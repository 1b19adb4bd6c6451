"""The options of the page's server: where it listens, whom it lets in, and what it takes and keeps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.app.settings import Access, Limits, is_loopback, parse_auth
from jax_interp.byte_sizes import parse_bytes
from jax_interp.errors import UsageError


@dataclass(frozen=True)
class AccessOptions:
    """The options for the address, and for who may come in."""

    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 7860
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let other machines in at this address of this machine, as 0.0.0.0. It needs --auth or"
            " --share-nothing. What is sent is not encrypted: use a proxy with TLS in front, or a tunnel (ssh -L).",
            show_default="127.0.0.1, this machine alone",
        ),
    ] = None
    auth: Annotated[
        str | None,
        typer.Option(metavar="USER:FILE", help="Ask for this name, and for the password in the file's first line."),
    ] = None
    share_nothing: Annotated[
        bool,
        typer.Option(
            "--share-nothing",
            help="With --listen: this server asks for no password, because a proxy in front of it decides who comes in."
            " Whoever reaches the port can use your GPUs; nobody sees another's jobs.",
        ),
    ] = False

    def access(self) -> Access:
        """Return where the server listens and whom it lets in; raises `UsageError` for what is not safe."""
        if self.share_nothing and self.auth is not None:
            raise UsageError("--share-nothing and --auth: give one of them")
        if self.listen is None and self.share_nothing:
            raise UsageError("--share-nothing: goes with --listen; without, only this machine reaches the server")
        if self.listen is not None and is_loopback(self.listen) and self.share_nothing:
            raise UsageError(f"--share-nothing: nobody but this machine reaches --listen {self.listen}; leave it out")
        user, password = parse_auth(self.auth) if self.auth is not None else (None, "")
        return Access(
            host=self.listen or "127.0.0.1",
            port=self.port,
            user=user,
            password=password,
            is_behind_proxy=self.share_nothing,
        )


_DEFAULT = Limits()


@dataclass(frozen=True)
class KeepingOptions:
    """The options for what users may send, and for what is kept of it."""

    data_dir: Annotated[Path, typer.Option(help="Folder of the jobs and their results.")] = Path("app-data")
    upload_limit: Annotated[str, typer.Option(help="The most that an upload may have, as 500MB.")] = "500MB"
    most_pairs: Annotated[int, typer.Option(help="The most pairs that a clip may have.")] = _DEFAULT.pairs
    most_waiting: Annotated[int, typer.Option(help="The most jobs that may wait.")] = _DEFAULT.waiting
    keep: Annotated[int, typer.Option(help="Finished jobs that are kept; the oldest go first.")] = _DEFAULT.kept
    keep_bytes: Annotated[str, typer.Option(help="Disk space that finished jobs may take, as 50GB.")] = "50GB"
    keep_days: Annotated[float, typer.Option(help="Days that a finished job is kept.")] = _DEFAULT.kept_days

    def limits(self) -> Limits:
        """Return the limits; raises `UsageError` for values that cannot work."""
        return Limits(
            upload_bytes=_bytes("--upload-limit", self.upload_limit),
            pairs=self.most_pairs,
            waiting=self.most_waiting,
            kept=self.keep,
            kept_bytes=_bytes("--keep-bytes", self.keep_bytes),
            kept_days=self.keep_days,
        )


def _bytes(flag: str, text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text}: expected an amount like 500MB or 2GiB") from error
