import huggingface_hub.constants
import pytest

from convert.hub.catalog import Repository
from convert.hub.client import Hub
from jax_interp.errors import DownloadError
from tests.convert.fake_hub import MEMBER, STRANGER, FakeHub, FakeRepository, serve

OPEN = Repository("someone/open", "open", "text_encoder", ("small.json", "big.bin"), gated=False)
GATED = Repository("someone/gated", "gated", "tokenizer", ("big.bin",), gated=True)
BIG = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def fake():
    repositories = {
        "someone/open": FakeRepository(
            {"small.json": b"{}\n", "big.bin": BIG, "extra": b"x"}, big=frozenset({"big.bin"})
        ),
        "someone/gated": FakeRepository({"big.bin": BIG}, gated=True, big=frozenset({"big.bin"})),
    }
    with serve(FakeHub(repositories)) as hub:
        yield hub


def client(fake, token=None):
    return Hub(fake.endpoint, token, attempts=3, backoff=0.0)


def failure(call, *args):
    with pytest.raises(DownloadError) as caught:
        call(*args)
    return str(caught.value)


def test_snapshot_has_commit_sizes_and_checksums(fake):
    snapshot = client(fake).snapshot(OPEN, "main")
    assert snapshot.commit == "a" * 40
    small, big = snapshot.files
    assert (small.name, small.size, small.sha256) == ("small.json", 3, None)
    assert small.git_sha1 == "0967ef424bce6791893e9a57bb952f80fd536e93"
    assert (big.name, big.size, len(big.sha256 or "")) == ("big.bin", len(BIG), 64)


def test_fetch_writes_the_file_and_keeps_the_token_at_home(fake, tmp_path):
    hub = client(fake, MEMBER)
    snapshot = hub.snapshot(GATED, "main")
    counts = []
    hub.fetch(snapshot, snapshot.files[0], tmp_path / "part", counts.append)
    assert (tmp_path / "part").read_bytes() == BIG
    assert sum(counts) == len(BIG)


def test_broken_transfers_are_taken_up_where_they_broke(fake, tmp_path):
    fake.breaks = [1000, 500_000]
    hub = client(fake)
    snapshot = hub.snapshot(OPEN, "main")
    hub.fetch(snapshot, snapshot.files[1], tmp_path / "part", lambda count: None)
    assert (tmp_path / "part").read_bytes() == BIG
    assert fake.transfers() == [("big.bin", None), ("big.bin", "bytes=1000-"), ("big.bin", "bytes=501000-")]


def test_a_server_without_ranges_starts_over(fake, tmp_path):
    fake.breaks, fake.ignores_range = [1000], True
    hub = client(fake)
    snapshot = hub.snapshot(OPEN, "main")
    counts = []
    hub.fetch(snapshot, snapshot.files[1], tmp_path / "part", counts.append)
    assert (tmp_path / "part").read_bytes() == BIG
    assert sum(counts) == len(BIG)


def test_gives_up_after_some_attempts_and_keeps_what_arrived(fake, tmp_path):
    fake.breaks = [1000, 0, 0, 0]
    hub = client(fake)
    snapshot = hub.snapshot(OPEN, "main")
    message = failure(hub.fetch, snapshot, snapshot.files[1], tmp_path / "part", lambda count: None)
    assert "someone/open/big.bin" in message
    assert "the same command goes on" in message
    assert (tmp_path / "part").read_bytes() == BIG[:1000]


def test_passing_trouble_of_the_hub_is_waited_out(fake, tmp_path):
    fake.broken_status = [503, 500]
    hub = client(fake)
    snapshot = hub.snapshot(OPEN, "main")
    hub.fetch(snapshot, snapshot.files[0], tmp_path / "part", lambda count: None)
    assert (tmp_path / "part").read_bytes() == b"{}\n"


def test_second_download_of_the_same_file_is_refused(fake, tmp_path):
    import fcntl

    hub = client(fake)
    snapshot = hub.snapshot(OPEN, "main")
    with (tmp_path / "part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        message = failure(hub.fetch, snapshot, snapshot.files[0], tmp_path / "part", lambda count: None)
    assert "another download" in message


def test_messages_tell_no_token_bad_token_and_unaccepted_terms_apart(fake):
    messages = {
        token: failure(client(fake, token).check_access, client(fake).snapshot(GATED, "main"))
        for token in (None, "hf_x", STRANGER)
    }
    assert "no token was sent (401)" in messages[None]
    assert "https://huggingface.co/someone/gated" in messages[None]
    assert "hf auth login" in messages[None]
    assert "does not know the token (401)" in messages["hf_x"]
    assert "terms are not accepted (403)" in messages[STRANGER]
    assert "sign in at https://huggingface.co/someone/gated" in messages[STRANGER]
    assert not any("hf_" in message for message in messages.values())
    client(fake, MEMBER).check_access(client(fake).snapshot(GATED, "main"))


def test_messages_for_what_is_not_there(fake):
    hub = client(fake)
    unknown = Repository("someone/else", "else", "tokenizer", ("a",), gated=False)
    assert "no such repository" in failure(hub.snapshot, unknown, "main")
    message = failure(hub.snapshot, OPEN, "v9")
    assert "no revision v9 (404)" in message
    assert "--revision" in message
    lacking = Repository("someone/open", "open", "tokenizer", ("small.json", "gone.bin"), gated=False)
    assert "has no gone.bin" in failure(hub.snapshot, lacking, "main")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, "in trouble (500)"), (429, "too many requests"), (403, "may not read"), (410, "answers 410")],
)
def test_messages_for_other_answers(fake, status, expected):
    fake.status = status
    assert expected in failure(client(fake).snapshot, OPEN, "main")


def test_message_when_offline_mode_is_on(fake, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failure(client(fake).snapshot, OPEN, "main")


def test_message_when_nothing_answers():
    with serve(FakeHub({})) as gone:
        pass
    message = failure(client(gone).snapshot, OPEN, "main")
    assert f"cannot reach {gone.endpoint}" in message
    assert "HTTPS_PROXY" in message


def test_message_when_the_name_cannot_be_resolved():
    message = failure(Hub("http://hub.invalid", None).snapshot, OPEN, "main")
    assert "cannot reach http://hub.invalid" in message


def test_message_when_the_disk_fills_up(fake):
    hub = client(fake)

    def fill():
        with hub.explained(OPEN, "main", "big.bin"):
            raise OSError(28, "No space left on device")

    assert "the disk is full" in failure(fill)


def test_token_is_not_in_the_repr():
    assert MEMBER not in repr(Hub("http://hub.invalid", MEMBER))
