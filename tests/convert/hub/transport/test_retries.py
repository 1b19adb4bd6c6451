import math
import time
from email.utils import formatdate

import pytest

from convert.hub.transport.faults import BadResponse, ErrorResponse
from convert.hub.transport.retries import MAX_BACKOFF, Retries, retry_after
from jax_interp.errors import DownloadError

NOON = "Wed, 21 Oct 2015 12:00:00 GMT"


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "9" * 5000}, math.inf),
        ({"Retry-After": "-7"}, None),
        ({"Retry-After": "٧"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 12:01:30 GMT", "Date": NOON}, 90.0),
        ({"Retry-After": "Wed, 21 Oct 2015 14:01:30 +0200", "Date": NOON}, 90.0),
        ({"Retry-After": "Wed, 21 Oct 2015 12:01:30", "Date": NOON}, 90.0),
        ({"Retry-After": "Wed, 21 Oct 2015 11:00:00 GMT", "Date": NOON}, 0.0),
        ({"Retry-After": NOON}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 99999 12:00:00 GMT"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=3;t=55'}, None),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "7"}, 7.0),
        ({"RateLimit": f'"api";r=0;t={"9" * 5000}'}, None),
    ],
)
def test_what_the_hub_asks_for(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_without_the_hubs_clock_counts_from_now():
    assert retry_after({"Retry-After": formatdate(time.time() + 100, usegmt=True)}) == pytest.approx(100, abs=2)


def test_the_last_try_ends_with_its_own_error(waits):
    error = BadResponse("is odd", transient=True)
    retries = Retries("a file", attempts=3, backoff=1.0)
    retries.wait(error, "odd")
    assert not retries.is_last
    retries.wait(error, "odd")
    assert retries.is_last
    with pytest.raises(BadResponse, match="is odd"):
        retries.wait(error, "odd")
    assert len(waits) == 2


def test_progress_starts_the_count_anew(waits):
    retries = Retries("a file", attempts=2, backoff=1.0)
    for _ in range(5):
        retries.wait(BadResponse("is odd", transient=True), "odd", progress=True)
        assert retries.is_last
    assert all(wait <= 1.25 for wait in waits)


def test_pauses_grow_up_to_a_minute(waits):
    retries = Retries("a file", attempts=20, backoff=2.0)
    for _ in range(19):
        retries.wait(BadResponse("is odd", transient=True), "odd")
    assert all(wait <= 1.25 * MAX_BACKOFF for wait in waits)
    assert waits[10] >= 0.75 * MAX_BACKOFF


def test_what_another_try_cannot_mend_is_not_tried_again(waits):
    for error in (BadResponse("is odd"), ErrorResponse(404, {})):
        with pytest.raises(type(error)):
            Retries("a file", attempts=5, backoff=1.0).wait(error, "odd")
    assert not waits


def test_longer_waits_are_the_users_to_decide_on(waits):
    with pytest.raises(DownloadError, match=r"a file: busy. The hub asks to wait for 11 minutes; run this"):
        Retries("a file", attempts=5, backoff=1.0).wait(ErrorResponse(429, {"Retry-After": "660"}), "busy")
    assert not waits
