"""What is asked for comes, what follows it is being read, and no more than that."""

import threading

import pytest

from jax_interp.runtime.read_ahead import ReadAhead

ORDER = list(range(10))


def wait_until(condition, seconds=5.0):
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return True
        pause.wait(0.01)
    return False


@pytest.fixture
def started():
    return []


@pytest.fixture
def reads(started):
    def read(key):
        started.append(key)
        return key * key

    ahead = ReadAhead(read, ORDER, depth=3)
    yield ahead
    ahead.close()


def test_every_key_gets_its_own_result_pass_after_pass(reads, started):
    for _ in range(2):
        assert [reads(key) for key in ORDER] == [key * key for key in ORDER]
    assert sorted(started) == sorted(2 * ORDER)


def test_the_next_ones_are_read_before_they_are_asked_for(reads, started):
    reads(0)
    assert wait_until(lambda: len(started) == 3)
    assert sorted(started) == [0, 1, 2]


def test_nothing_is_read_beyond_the_depth(reads, started):
    reads(0)
    reads(1)
    assert wait_until(lambda: len(started) == 4)
    assert not wait_until(lambda: len(started) > 4, seconds=0.1)


def test_keys_may_be_left_out(reads):
    """As when some blocks stay on the device and the others are read in every pass."""
    for _ in range(2):
        assert [reads(key) for key in (0, 3, 4, 9)] == [0, 9, 16, 81]
    assert reads._reads == {}  # nothing that was passed over is held


def test_an_error_comes_where_its_key_is_asked_for():
    def read(key):
        if key == 1:
            raise OSError("disk")
        return key

    ahead = ReadAhead(read, ORDER)
    assert ahead(0) == 0
    with pytest.raises(OSError, match="disk"):
        ahead(1)
    assert ahead(2) == 2
    ahead.close()


def test_closing_reads_no_more(started):
    go = threading.Event()

    def read(key):
        started.append(key)
        go.wait(5)
        return key

    ahead = ReadAhead(read, ORDER, depth=1)
    thread = threading.Thread(target=lambda: ahead(0))
    thread.start()
    assert wait_until(lambda: started == [0])
    ahead.close()
    go.set()
    thread.join(5)
    assert started == [0]
