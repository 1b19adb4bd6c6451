"""What is asked of the hub: sizes, checksums and bytes. Every failure becomes a message that says what to do."""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from convert.hub.catalog import Repository
from jax_interp.errors import DownloadError
from jax_interp.files.lock import lock_path, locked

# The HTTP library below huggingface_hub has changed its name once; this is its base class for every failed request.
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]

TOKENS_PAGE = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository at one commit."""

    name: str
    size: int
    sha256: str | None
    """Of the content; the hub knows it for big files only."""
    git_sha1: str
    """Git's identifier of the content, for small files."""


@dataclass(frozen=True)
class Snapshot:
    """The wanted files of a repository at the commit that a branch, tag or commit stands for."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Hub:
    """The hub at `endpoint` (by default the public one, or `HF_ENDPOINT`), asked with the user's own token."""

    endpoint: str | None = None
    token: str | None = field(default_factory=get_token, repr=False)
    attempts: int = 5
    """Tries without a new byte before a transfer is given up."""
    pause: float = 2.0
    """Seconds before the second try; doubles with each."""

    def snapshot(self, repository: Repository, revision: str) -> Snapshot:
        """Sizes and checksums of the repository's files at `revision`."""
        with self.explained(repository, revision):
            api = HfApi(endpoint=self.endpoint, token=self.token or False)
            info = api.model_info(repository.repo_id, revision=revision, files_metadata=True)
        found = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        missing = [name for name in repository.files if name not in found]
        if missing or not info.sha:
            raise DownloadError(
                f"{repository.repo_id} at {revision} has no {', '.join(missing) or 'commit'}; "
                "name a revision that does: --revision REPOSITORY=REVISION"
            )
        files = []
        for name in repository.files:
            sibling = found[name]
            sha256 = sibling.lfs.sha256 if sibling.lfs else None
            files.append(RemoteFile(name, sibling.size or 0, sha256, sibling.blob_id or ""))
        return Snapshot(repository, info.sha, tuple(files))

    def check_access(self, snapshot: Snapshot) -> None:
        """Ask for a file without fetching it: sizes are public, files may need a token and accepted terms."""
        repository = snapshot.repository
        with self.explained(repository, snapshot.commit, repository.files[0]):
            response = get_session().request(
                "HEAD", self._url(snapshot, repository.files[0]), headers=self._headers(), follow_redirects=False
            )
            hf_raise_for_status(response)

    def fetch(self, snapshot: Snapshot, file: RemoteFile, part: Path, arrived: Callable[[int], None]) -> None:
        """Complete `part`, which may hold the file's beginning from an earlier run; `arrived` hears of every new byte.

        A broken connection is taken up again where it broke. Whatever ends the transfer, the bytes in `part` stay.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        with self.explained(snapshot.repository, snapshot.commit, file.name), _only_writer(part) as output:
            failures = 0
            while (have := output.seek(0, 2)) < file.size:
                try:
                    self._stream(snapshot, file, have, output, arrived)
                except (TransportError, TimeoutError) as error:
                    failures = 1 if output.seek(0, 2) > have else failures + 1
                    if failures >= self.attempts or not _is_passing(error):
                        raise
                    time.sleep(self.pause * 2 ** (failures - 1))

    def _stream(
        self, snapshot: Snapshot, file: RemoteFile, have: int, output: BinaryIO, arrived: Callable[[int], None]
    ) -> None:
        headers = self._headers() | {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        url = self._url(snapshot, file.name)
        with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=60) as response:
            hf_raise_for_status(response)
            if response.status_code != 206 and have:
                output.truncate(0)
                arrived(-have)
            # No chunk size: chunks gathered up to one would be lost with the connection.
            for chunk in response.iter_raw():
                output.write(chunk)
                arrived(len(chunk))
            output.flush()

    def _url(self, snapshot: Snapshot, name: str) -> str:
        return hf_hub_url(snapshot.repository.repo_id, name, revision=snapshot.commit, endpoint=self.endpoint)

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(token=self.token or False, library_name="jax-interp")

    @contextlib.contextmanager
    def explained(self, repository: Repository, revision: str, name: str | None = None) -> Iterator[None]:
        """Turn what goes wrong inside into a `DownloadError` with the repository or file, the cause and the remedy."""
        subject = f"{repository.repo_id}{f'/{name}' if name else ''} at {revision}"
        try:
            yield
        except DownloadError:
            raise
        except OfflineModeIsEnabled as error:
            raise DownloadError(
                f"{subject}: offline mode is on (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set); unset it to download, "
                "or copy the checkpoint folder from a machine that has it"
            ) from error
        except HfHubHTTPError as error:
            raise DownloadError(f"{subject}: {self._refusal(error, repository, revision, name)}") from error
        except (TransportError, TimeoutError, ConnectionError, socket.gaierror) as error:
            raise DownloadError(
                f"{subject}: cannot reach {self.endpoint or constants.ENDPOINT} ({error or type(error).__name__}); "
                "check the network, the name server and HTTPS_PROXY. What has arrived is kept: the same command goes on"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DownloadError(
                f"{subject}: the disk is full; free some space, then the same command goes on where it stopped"
            ) from error

    def _refusal(self, error: HfHubHTTPError, repository: Repository, revision: str, name: str | None) -> str:
        """Cause and remedy of an answer that is not the file."""
        status = error.response.status_code
        if status == 401:
            if self.token:
                return f"the hub does not know the token (401); make a new one at {TOKENS_PAGE} and run `hf auth login`"
            terms = f", accept the terms at {repository.url}" if repository.gated else ""
            return (
                f"no token was sent (401); make one that may read at {TOKENS_PAGE}{terms}, "
                "then run `hf auth login` or set HF_TOKEN"
            )
        if isinstance(error, GatedRepoError):
            return (
                f"the terms are not accepted (403); sign in at {repository.url} with the account of your token, accept "
                "them, then run this command again"
            )
        if status == 403:
            return (
                "the token may not read this repository (403); a fine-grained token needs the permission to read "
                f"public gated repositories, see {TOKENS_PAGE}"
            )
        if isinstance(error, RevisionNotFoundError):
            return f"there is no revision {revision} (404); see {repository.url}/commits/main and pass --revision"
        if isinstance(error, EntryNotFoundError):
            return f"there is no file {name} (404); see {repository.url}/tree/{revision} and pass another --revision"
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            return f"there is no such repository at {self.endpoint or constants.ENDPOINT} (404); check HF_ENDPOINT"
        if status == 429:
            return (
                "too many requests (429); wait a few minutes, then run this command again: it goes on where it stopped"
            )
        if status >= 500:
            return f"the hub is in trouble ({status}); run this command again later: it goes on where it stopped"
        return f"the hub answers {status}: {error.server_message or error}"


def _is_passing(error: Exception) -> bool:
    """Whether trying again may help: the connection broke, or the hub is overloaded."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code >= 500


@contextlib.contextmanager
def _only_writer(part: Path) -> Iterator[BinaryIO]:
    """`part`, open at its end. Two processes that write one file would spoil it."""

    def refusal(holder: str) -> DownloadError:
        return DownloadError(f"{part} is being written by another download ({holder}); wait for it to end")

    with part.open("ab") as output, locked(output.fileno(), lock_path(part), refusal):
        yield output
