"""The operations on jobs: a job is put into the queue whole or not at all, and is its owner's alone."""

import pytest

from jax_interp.app.desk import Desk, plan_in_words
from jax_interp.errors import JaxInterpError, UsageError
from tests import golden
from tests.app.conftest import OTHER, OWNER, add, with_limits


def test_a_job_is_queued_with_its_own_copy_of_the_input(office):
    id = office.submit(rate="2x")
    entry = office.desk.find(OWNER, id)
    assert (entry.state, entry.name, entry.settings.rate) == ("queued", "clip.mp4", "2x")
    assert [path.name for path in office.desk.folder(id).input_files(entry)] == ["000.mp4"]
    assert all(path.is_file() for path in office.desk.folder(id).input_files(entry))
    assert len(id) == 32
    assert office.woken == [1]


def test_nobody_else_finds_or_cancels_it(office):
    id = office.submit()
    for wrong in (lambda: office.desk.find(OTHER, id), lambda: office.desk.cancel(OTHER, id)):
        with pytest.raises(UsageError, match="there is no such job"):
            wrong()
    assert office.desk.latest(OTHER) == []
    assert office.desk.cancel(OWNER, id).state == "cancelled"


@pytest.mark.parametrize("id", [None, 3, ["a"], "", "../../etc", "%", "0" * 32])
def test_ids_that_are_none(office, id):
    with pytest.raises(UsageError, match="there is no such job"):
        office.desk.find(OWNER, id)


def test_where_the_queue_is_full_nothing_is_left_behind(office):
    desk = Desk(with_limits(office.app, waiting=1), office.store, lambda: None)
    desk.submit(OWNER, {}, office.upload())
    with pytest.raises(UsageError, match="1 jobs are waiting"):
        desk.submit(OWNER, {}, office.upload())
    assert len(list(office.app.jobs_folder.iterdir())) == 1


def test_a_file_that_is_damaged_or_too_large_is_refused_before_it_waits(office, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\0" * 500)
    with pytest.raises(Exception, match=r"damaged\.mp4"):
        office.desk.submit(OWNER, {}, office.upload(damaged))
    small = Desk(with_limits(office.app, upload_bytes=10), office.store, lambda: None)
    with pytest.raises(UsageError, match="are taken at most"):
        small.submit(OWNER, {}, office.upload())
    assert list(office.app.jobs_folder.iterdir()) == []


def test_messages_do_not_say_where_the_server_has_its_files(office, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\0" * 500)
    for values, file, message in (
        ({}, damaged, "damaged.mp4: "),
        ({"pipeline": "continue", "prompt": "rain", "length": 9}, golden.CLIP, "is a WorldInterpolator transformer"),
    ):
        with pytest.raises(JaxInterpError) as caught:
            office.desk.plan(values, office.upload(file))
        assert message in str(caught.value)
        assert str(office.app.folder) not in str(caught.value)
        assert str(office.app.networks.checkpoint_dir) not in str(caught.value)


def test_what_a_job_will_take_in_words(office):
    plan = office.desk.plan({"steps": 1}, office.upload())
    unknown = plan_in_words(plan)
    assert unknown[1].startswith(f"The networks make {plan['pairs']} pair(s). It takes up to ")
    assert "not known yet" in unknown[2]
    office.submit()
    add(office.store, "1" * 32, state="done", work_seconds=100.0, start_seconds=30.0)
    known = plan_in_words(office.desk.plan({"steps": 1}, office.upload()))
    assert "By the speed measured on this machine about" in known[2]
    assert "up to 30 s for loading" in known[2]
    assert known[3].startswith("1 job(s) come before, about")


def test_progress_and_results_are_json_values(office):
    import json

    entry = office.desk.find(OWNER, office.submit())
    assert json.loads(json.dumps(office.desk.progress(entry)))["state"] == "queued"
    assert office.desk.results(entry) == {}
    office.desk.folder(entry.id).video.write_bytes(b"1")
    office.store.end(entry.id, "done")
    assert office.desk.results(office.desk.find(OWNER, entry.id)) == {"video": f"/results/{entry.id}/result.mp4"}


def test_frames_at_the_end_that_are_left_out_are_said(office):
    plan = office.desk.plan({"steps": 1, "rate": "2x", "frame_stride": 2}, office.upload())
    said = [line for line in plan_in_words(plan) if "fill no pair" in line]
    assert bool(said) == bool(plan["left_out_frames"]) == (plan["given_frames"] % 2 == 0)
