"""A server that other machines reach asks for a password, or is told that a proxy does."""

import pytest

from jax_interp.app.settings import Access, Limits, is_loopback, parse_auth
from jax_interp.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_password(host):
    assert is_loopback(host)
    assert Access(host=host).user is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com", "127.0.0.1.example.com", ""])
def test_others_need_one(host):
    with pytest.raises(UsageError, match="--auth USER:FILE, or --share-nothing"):
        Access(host=host)
    assert Access(host=host, user="ann", password="long enough").user == "ann"
    assert Access(host=host, is_behind_proxy=True).user is None


def test_the_password_is_not_printed():
    assert "secret" not in repr(Access(user="ann", password="secret words"))


def test_it_is_the_first_line_of_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("correct horse\nanything\n")
    assert parse_auth(f"ann:{file}") == ("ann", "correct horse")


@pytest.mark.parametrize("content", ["", "\nlong enough\n", "short\n"])
def test_a_short_password_is_refused(tmp_path, content):
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(UsageError, match="8 characters or more"):
        parse_auth(f"ann:{file}")


@pytest.mark.parametrize("text", ["", "ann", "ann:", ":file"])
def test_both_parts_are_needed(text):
    with pytest.raises(UsageError, match="expected USER:FILE"):
        parse_auth(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"ann:.*nowhere: the file cannot be read"):
        parse_auth(f"ann:{tmp_path / 'nowhere'}")


def test_all_limits_that_cannot_be_are_named_at_once():
    with pytest.raises(UsageError, match=r"--keep 0: .*; --keep-days -1"):
        Limits(kept=0, kept_days=-1)
    with pytest.raises(UsageError, match="--port 70000"):
        Access(port=70000)
