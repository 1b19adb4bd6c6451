"""Explanations of failures of the hub and the disk: the cause, and what to do about it."""

import errno
import socket
from dataclasses import dataclass

from huggingface_hub.errors import OfflineModeIsEnabled

from convert.hub.catalog import Repository
from convert.hub.transport.faults import UNREACHABLE, BadResponse, ErrorResponse, InvalidAddress, Unusable
from jax_interp.errors import DownloadError

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
GOES_ON = "the same command goes on where it stopped"


class AccessRefused(DownloadError):
    """The hub refuses access: the repository wants a token, another token, or accepted terms."""


@dataclass(frozen=True)
class Request:
    """A request to the hub, as far as messages name it."""

    endpoint: str
    has_token: bool
    repository: Repository
    revision: str
    name: str | None = None
    """The name of the file; None for the repository's listing."""

    @property
    def subject(self) -> str:
        """The subject of the message, as `nvidia/Cosmos-Guardrail1/config.json at main`."""
        name = f"/{self.name}" if self.name else ""
        return f"{self.repository.repo_id}{name} at {self.revision}"

    def explain(self, error: Exception) -> tuple[str, str]:
        """Return cause and remedy of a request that failed with `error`."""
        if isinstance(error, ErrorResponse):
            return self._refused(error)
        if isinstance(error, BadResponse):
            return f"the hub's answer {error}", error.remedy or f"check the network and HF_ENDPOINT, then {GOES_ON}"
        if isinstance(error, Unusable):
            return f"no connection can be made ({error})", "correct HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE"
        if isinstance(error, InvalidAddress):
            return f"{self.endpoint} is no address of a hub", "correct HF_ENDPOINT or unset it"
        if isinstance(error, OfflineModeIsEnabled):
            return (
                "offline mode is on (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set)",
                "unset it to download, or copy the checkpoint folder from a machine that has it",
            )
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return explain_disk(error)
        trouble = f"cannot reach {self.endpoint}" if isinstance(error, UNREACHABLE) else "the connection failed"
        return (
            f"{trouble} ({str(error) or type(error).__name__})",
            f"check the network, the name server and HTTPS_PROXY. What has arrived is kept: {GOES_ON}",
        )

    def _refused(self, error: ErrorResponse) -> tuple[str, str]:
        status = error.status
        if status in (401, 403):
            return self._unauthorized(error)
        if status == 404:
            return self._not_found(error)
        if status == 416:
            return "the hub does not have the rest of the file (416)", f"wait a while, then {GOES_ON}"
        if status == 429:
            return "too many requests (429)", f"wait a few minutes, then {GOES_ON}"
        if status >= 500:
            return f"the hub is in trouble ({status})", f"wait a while, then {GOES_ON}"
        said = f": {error.text}" if error.text else ""
        return f"the hub answers {status}{said}", "check HF_ENDPOINT"

    def _unauthorized(self, error: ErrorResponse) -> tuple[str, str]:
        page = self.repository.url
        if error.status == 401 and self.has_token:
            return "the hub does not know the token (401)", f"make a new one at {TOKENS_PAGE} and run `hf auth login`"
        if error.status == 401:
            terms = f", accept the terms at {page}" if self.repository.gated else ""
            return (
                "no token was sent (401)",
                f"make one that may read at {TOKENS_PAGE}{terms}, then run `hf auth login` or set HF_TOKEN",
            )
        if error.code == "GatedRepo":
            return (
                "the terms are not accepted (403)",
                f"sign in at {page} with the account of your token, accept them, then run this command again",
            )
        return (
            "the token may not read this repository (403)",
            f"a fine-grained token needs the permission to read public gated repositories, see {TOKENS_PAGE}",
        )

    def _not_found(self, error: ErrorResponse) -> tuple[str, str]:
        page = self.repository.url
        if error.code == "RevisionNotFound":
            return f"there is no revision {self.revision} (404)", f"see {page}/commits/main and pass --revision"
        if error.code == "RepoNotFound" or self.name is None:
            return f"there is no such repository at {self.endpoint} (404)", "check HF_ENDPOINT"
        return (
            f"there is no file {self.name} (404)",
            f"see {page}/tree/{self.revision} and pass another --revision",
        )


def explain_disk(error: OSError) -> tuple[str, str]:
    """Return cause and remedy where a file cannot be written, read or renamed."""
    path = error.filename or "a file"
    elsewhere = "or name another --checkpoint-dir"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full", f"free some space, then {GOES_ON}"
    if error.errno == errno.EFBIG:
        return "files of this size are not taken here", f"raise the limit (`ulimit -f`) {elsewhere}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} may not be written", f"change its permissions {elsewhere}"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return f"{path} is in the way: a folder where a file has to be, or the reverse", f"move it away {elsewhere}"
    return f"{path} cannot be used ({error.strerror or error})", f"mend that {elsewhere}"
