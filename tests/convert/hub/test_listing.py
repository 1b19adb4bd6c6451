import json

import pytest

from convert.hub.catalog import Repository
from convert.hub.listing import RemoteFile, read_listing
from convert.hub.transport.faults import BadResponse

REPOSITORY = Repository("someone/text", "text", "text_encoder", ("a.json", "b.bin"), gated=False)
SMALL = {"rfilename": "a.json", "size": 3, "blobId": "1" * 40}
BIG = {
    "rfilename": "b.bin",
    "size": 5,
    "blobId": "2" * 40,
    "lfs": {"sha256": "3" * 64, "size": 5, "pointerSize": 130},
}


def read(*rows, revision="main", **values):
    listing = {"id": "someone/text", "sha": "a" * 40, "siblings": list(rows)} | values
    return read_listing(REPOSITORY, revision, json.dumps(listing).encode(), "application/json")


def test_files_are_those_of_the_catalog_in_its_order():
    snapshot = read(BIG, {"rfilename": "README.md"}, SMALL)
    assert snapshot.commit == "a" * 40
    assert snapshot.files == (RemoteFile("a.json", 3, None, "1" * 40), RemoteFile("b.bin", 5, "3" * 64, "2" * 40))


def test_an_empty_file_is_a_file():
    assert read(SMALL | {"size": 0}, BIG).files[0].size == 0


def test_one_of_two_equal_sizes_is_enough():
    assert read(SMALL, {name: value for name, value in BIG.items() if name != "size"}).files[1].size == 5


def test_a_commit_has_to_come_back_and_a_branch_need_not():
    assert read(SMALL, BIG, revision="a" * 40).commit == read(SMALL, BIG, revision="v1").commit
    with pytest.raises(BadResponse, match="which was not asked for"):
        read(SMALL, BIG, revision="b" * 40)


def test_all_missing_files_are_named():
    with pytest.raises(BadResponse, match=r"has no a\.json, b\.bin") as caught:
        read()
    assert "--revision REPOSITORY=REVISION" in caught.value.remedy
