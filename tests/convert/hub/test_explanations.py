import errno
import os

import pytest

from convert.hub.catalog import Repository
from convert.hub.explanations import Request, explain_disk
from convert.hub.transport.faults import ErrorResponse, Unusable

REPOSITORY = Repository("someone/text", "text", "text_encoder", ("a.json",), gated=True)
REQUEST = Request("http://hub", False, REPOSITORY, "main", "a.json")


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        (errno.ENOSPC, "the disk is full", "free some space"),
        (errno.EDQUOT, "the disk is full", "free some space"),
        (errno.EFBIG, "files of this size are not taken here", "ulimit -f"),
        (errno.EACCES, "/x/a may not be written", "change its permissions or name another --checkpoint-dir"),
        (errno.EROFS, "/x/a may not be written", "--checkpoint-dir"),
        (errno.EISDIR, "/x/a is in the way", "move it away"),
        (errno.ENOTDIR, "/x/a is in the way", "move it away"),
        (errno.EIO, "/x/a cannot be used (Input/output error)", "--checkpoint-dir"),
    ],
)
def test_what_the_disk_refuses(code, cause, remedy):
    error = OSError(code, os.strerror(code), "/x/a")
    found = explain_disk(error)
    assert cause in found[0]
    assert remedy in found[1]
    assert REQUEST.explain(error) == found


def test_the_subject_names_file_and_revision():
    assert REQUEST.subject == "someone/text/a.json at main"
    assert Request("http://hub", False, REPOSITORY, "main").subject == "someone/text at main"


def test_a_file_that_is_gone_is_no_missing_repository():
    assert REQUEST.explain(ErrorResponse(404, {}))[0] == "there is no file a.json (404)"
    assert "repository" in Request("http://hub", False, REPOSITORY, "main").explain(ErrorResponse(404, {}))[0]


def test_settings_of_the_machine_are_named():
    assert "HTTPS_PROXY" in REQUEST.explain(Unusable("Unknown scheme"))[1]
