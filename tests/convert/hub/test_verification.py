import hashlib

from convert.hub.listing import RemoteFile
from convert.hub.verification import find_mismatches

DATA = b"{}\n"
GIT = "0967ef424bce6791893e9a57bb952f80fd536e93"
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = "8a80554c91d9fca8acb82f023de02f11"


def test_the_right_file_has_no_faults(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert find_mismatches(path, RemoteFile("file", 3, None, GIT)) == {}
    # Git's identifier of a big file is that of a pointer to it
    assert find_mismatches(path, RemoteFile("file", 3, SHA256, "0" * 40), MD5) == {}


def test_every_measure_that_differs_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert [*find_mismatches(path, RemoteFile("file", 4, None, "0" * 40), "0" * 32)] == ["size", "Git SHA-1", "MD5"]
    assert find_mismatches(path, RemoteFile("file", 3, "0" * 64, GIT)) == {
        "SHA-256": f"SHA-256 {SHA256}, expected {'0' * 64}"
    }


def test_an_empty_file_is_right_if_its_checksum_says_so(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert find_mismatches(path, RemoteFile("file", 0, None, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")) == {}
    assert find_mismatches(path, RemoteFile("file", 0, None, GIT))
