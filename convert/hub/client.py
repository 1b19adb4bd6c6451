"""The client of the hub asks for sizes, checksums and bytes; failures become messages that say what to do."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from huggingface_hub import constants, get_token, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from convert.hub.catalog import Repository
from convert.hub.explanations import TOKENS_PAGE, AccessRefused, Request
from convert.hub.listing import MAX_LISTING_BYTES, RemoteFile, Snapshot, read_listing
from convert.hub.transport.connection import content_type, open_response, read_bounded, session
from convert.hub.transport.faults import BROKEN, UNREACHABLE, ErrorResponse, HubFault, InvalidAddress, TransportError
from convert.hub.transport.redaction import Redaction
from convert.hub.transport.retries import Retries
from convert.hub.transport.transfer import PartialDownload
from convert.hub.transport.watchdog import Watchdog
from jax_interp.errors import DownloadError
from jax_interp.files.lock import lock_path, locked

Found = TypeVar("Found")


@dataclass(frozen=True)
class Hub:
    """A client of the hub at `endpoint` (by default the public one, or `HF_ENDPOINT`) with the user's own token."""

    endpoint: str | None = None
    token: str | None = field(default_factory=get_token, repr=False)
    attempts: int = 5
    """The number of tries in a row that may bring less than `min_bytes` new bytes before a transfer is given up."""
    backoff: float = 2.0
    """Seconds before the second try; the wait doubles with each further try."""
    timeout: float = 60.0
    """Seconds in which a response or `min_bytes` bytes of a file have to arrive."""
    min_bytes: int = 2**19

    def __post_init__(self) -> None:
        """Refuse a token that cannot be one, since an error of the HTTP library would quote it, and a wrong address."""
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise DownloadError(
                "the token (HF_TOKEN, or the one that `hf auth login` saved) has characters that no token has; copy it "
                f"again from {TOKENS_PAGE}"
            )
        address = self.endpoint or constants.ENDPOINT
        if not address.startswith(("https://", "http://")):
            raise DownloadError(
                f"HF_ENDPOINT={address} is no address of a hub, expected one like https://huggingface.co"
            )

    def snapshot(self, repository: Repository, revision: str) -> Snapshot:
        """Ask for sizes and checksums of the repository's files at `revision`, and for its commit."""
        endpoint, name = (self.endpoint or constants.ENDPOINT).rstrip("/"), quote(revision, safe="")
        url = f"{endpoint}/api/models/{repository.repo_id}/revision/{name}?blobs=true"

        def listing() -> Snapshot:
            with self._response("GET", url) as (response, watch):
                body = read_bounded(response, watch, MAX_LISTING_BYTES)
                return read_listing(repository, revision, body, content_type(response))

        with self.explained(repository, revision) as request:
            return self._ask(request, listing)

    def check_access(self, snapshot: Snapshot) -> None:
        """Ask for a file without fetching it: sizes are public, files may need a token and accepted terms.

        Raises:
            AccessRefused: a token or accepted terms are missing. Other failures are a `DownloadError`, as everywhere.
        """
        name = snapshot.repository.files[0]

        def head() -> None:
            with self._response("HEAD", self._url(snapshot, name), leave_origin=False):
                pass  # also a redirect to where the bytes lie says that they may be had

        with self.explained(snapshot.repository, snapshot.commit, name) as request:
            self._ask(request, head)

    def fetch(self, snapshot: Snapshot, file: RemoteFile, part: Path, arrived: Callable[[int], None]) -> None:
        """Complete `part`, which may hold the file's beginning from an earlier run; `arrived` is told of new bytes.

        After a broken connection the transfer goes on where it broke. Whatever ends it, the bytes in `part` stay.
        """
        url = self._url(snapshot, file.name)
        with self.explained(snapshot.repository, snapshot.commit, file.name) as request, _open_partial(part) as output:
            growing = PartialDownload(output, file.size, arrived)
            retries = self._retries(request)
            furthest = growing.have
            while (have := growing.have) < file.size:
                try:
                    span = {"Range": f"bytes={have}-"} if have else {}
                    with self._response("GET", url, span) as (response, watch):
                        growing.append(response, watch)
                except (*BROKEN, HubFault) as error:
                    # what had been fetched before and was given up since is no progress
                    progress = growing.have >= furthest + self.min_bytes
                    furthest = max(furthest, growing.have)
                    retries.wait(error, request.explain(error)[0], progress)
                    if retries.is_last and isinstance(error, HubFault) and error.unresumable:
                        growing.shorten(0)

    @contextlib.contextmanager
    def explained(self, repository: Repository, revision: str, name: str | None = None) -> Iterator[Request]:
        """Turn what goes wrong inside into a `DownloadError` with the repository or file, the cause and the remedy."""
        request = Request(self.endpoint or constants.ENDPOINT, bool(self.token), repository, revision, name)
        redaction = Redaction(self.token)
        try:
            session()  # with its first client the HTTP library makes its loggers
            with redaction.of_logs():
                yield request
            return
        except DownloadError as error:
            failure = DownloadError(redaction.clean(str(error)))
        except (HubFault, TransportError, InvalidAddress, OSError) as error:
            cause, remedy = request.explain(error)
            kind = AccessRefused if isinstance(error, ErrorResponse) and error.status in (401, 403) else DownloadError
            failure = kind(redaction.clean(f"{request.subject}: {cause}; {remedy}"))
        try:
            raise failure
        finally:
            # The errors below may quote what the hub sent, and with it the token.
            failure.__context__ = None

    def _ask(self, request: Request, question: Callable[[], Found]) -> Found:
        """Return the answer to a small question, which is repeated while the hub is busy."""
        retries = self._retries(request)
        while True:
            try:
                return question()
            except (*BROKEN, HubFault) as error:
                if isinstance(error, UNREACHABLE):
                    raise
                retries.wait(error, request.explain(error)[0])

    @contextlib.contextmanager
    def _response(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, leave_origin: bool = True
    ) -> Iterator[tuple[Any, Watchdog]]:
        asked = build_hf_headers(token=self.token or False, library_name="jax-interp") | dict(headers or {})
        with (
            Watchdog(self.timeout, self.min_bytes) as watch,
            open_response(method, url, asked, watch, leave_origin) as response,
        ):
            yield response, watch

    def _url(self, snapshot: Snapshot, name: str) -> str:
        return hf_hub_url(snapshot.repository.repo_id, name, revision=snapshot.commit, endpoint=self.endpoint)

    def _retries(self, request: Request) -> Retries:
        return Retries(request.subject, self.attempts, self.backoff)


@contextlib.contextmanager
def _open_partial(part: Path) -> Iterator[BinaryIO]:
    """The part for appending, locked: two processes that write one file would spoil it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    # A link could point out of the folder; a pipe would wait for a reader for ever.
    if part.is_symlink() or (part.exists() and not part.is_file()):
        raise DownloadError(f"{part} is not a file of an earlier download; move it away")

    def refusal(holder: str) -> DownloadError:
        return DownloadError(f"{part} is being written by another download ({holder}); wait for it to end")

    with part.open("ab") as output, locked(output.fileno(), lock_path(part), refusal):
        yield output
