"""What the server of `jax-interp app` is started with, as frozen values. Imports neither JAX nor Gradio."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings
from jax_interp.pipeline.safety.settings import GuardrailSettings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What users may ask for, and how much of it is kept."""

    upload_bytes: int = 500_000_000
    """The bytes of an upload, all of its files together."""
    pairs: int = 1000
    """The pairs of a clip: the work that one job may be."""
    output_frames: int = 20_000
    waiting: int = 1000
    """The jobs that may wait at a time, of all users together."""
    kept: int = 50
    """The finished jobs whose results are kept; the oldest are removed first."""
    kept_bytes: int = 50_000_000_000
    kept_days: float = 30.0

    def __post_init__(self) -> None:
        faults = [
            f"{flag} {value}: expected a number above 0"
            for flag, value in (
                ("--upload-limit", self.upload_bytes),
                ("--most-pairs", self.pairs),
                ("--keep", self.kept),
                ("--keep-bytes", self.kept_bytes),
                ("--keep-days", self.kept_days),
            )
            if not value > 0
        ]
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where the server listens, and whom it lets in."""

    host: str = "127.0.0.1"
    port: int = 7860
    user: str | None = None
    """The name to sign in with; None asks nobody."""
    password: str = field(default="", repr=False)
    is_behind_proxy: bool = False
    """Whether a proxy in front of the server decides who comes in (`--share-nothing`)."""

    def __post_init__(self) -> None:
        """Raise `UsageError` if other machines could reach a server that asks nobody for a password."""
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}: expected a number from 0, which takes a free one, to 65535")
        if not is_loopback(self.host) and self.user is None and not self.is_behind_proxy:
            raise UsageError(
                f"--listen {self.host}: other machines could reach the server, and it asks nobody for a password; give"
                " --auth USER:FILE, or --share-nothing if a proxy in front of it does"
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server that listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_auth(text: str) -> tuple[str, str]:
    """Return the name and the password of `--auth USER:FILE`; the password is the first line of the file.

    Raises:
        UsageError: a part is missing, the file cannot be read, or the password is shorter than 8 characters.
    """
    user, colon, file = text.partition(":")
    if not (user and colon and file):
        raise UsageError(f"--auth {text}: expected USER:FILE, a file whose first line is the password")
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--auth {user}:{file}: the file cannot be read ({error})") from error
    password = lines[0].strip() if lines else ""
    if len(password) < 8:
        raise UsageError(f"--auth {user}:{file}: the first line is to be a password of 8 characters or more")
    return user, password


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Everything that the server is started with."""

    folder: Path = Path("app-data")
    """The folder of the jobs and their results, which only its owner may enter."""
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    guardrails: GuardrailSettings | None = field(default_factory=GuardrailSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    height: int = 704
    width: int = 1280
    """The network's size where a user does not choose one."""
    num_steps: int = 35
    frame_stride: int = 1
    example: Path | None = None
    """A clip that a user can try without having one."""

    def without_folders(self, text: str) -> str:
        """Return a message for users, who need not know where the server has its files."""
        for folder in (self.jobs_folder, self.folder, self.networks.checkpoint_dir):
            for path in {str(folder.absolute()), str(folder)} - {"."}:
                text = text.replace(f"{path}/", "")
        return text

    @property
    def jobs_folder(self) -> Path:
        return self.folder / "jobs"

    @property
    def uploads_folder(self) -> Path:
        return self.folder / "uploads"
