"""The projection of run folders into MLflow, against a real sqlite store."""

import math
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import pytest
from projected import CELL, ROOT, Died, by_run, content, dead, die_after, histories, own, with_report, write

from bench.errors import BadInput
from bench.tracking import sync
from reports.records.event_log import encode


def test_curves_params_tags_and_datasets(root):
    sync.sync(root, "tiny")
    uri = sync.default_uri(root)
    runs = by_run(uri)
    first = next(run for name, run in runs.items() if "s100" in name)
    assert first.info.status == "FINISHED" and first.data.tags["status"] == "complete"
    assert {"suite", "dataset", "backbone", "method", "seed", "role", "pair", "protocol", "run", "hash"} <= set(
        first.data.tags
    )
    assert first.data.tags["method"] == "none" and first.info.run_name == "digits uvit-xs none seed 100 (pilot)"
    assert first.data.params["optimizer.lr"] == "0.001" and first.inputs.dataset_inputs[0].dataset.name == "digits"
    assert first.data.tags["mlflow.parentRunId"] == runs[CELL].info.run_id
    points = histories(uri)[first.data.tags["skipbench.run"], "frechet_small-conv"]
    assert [(step, value) for step, value, _ in points] == [
        (32 * i, 9.0 / i) for i in (1, 3, 4, 5, 6)
    ]  # nan is no number
    assert points[0][2] == 1001500 and first.data.tags["not_finite"] == "frechet_small-conv: nan at 64 images"
    note = first.data.tags["mlflow.note.content"]
    assert next(run for name, run in runs.items() if "s101" in name).info.status == "RUNNING"
    assert (
        "**none** on digits/uvit-xs, seed 100, pilot: complete. Frechet distance (small-conv) 1.500 after 192" in note
    )
    made = content(root)[2][first.data.tags["run"]]  # MLflow's series of images: each as it is, and to be looked at
    steps = [
        re.fullmatch(r"images/samples\+step\+(\d+)\+timestamp\+.*(\.png|\+compressed\.webp)", one)[1] for one in made
    ]
    assert sorted(steps) == ["192", "192", "96", "96"] and first.data.tags["mlflow.loggedImages"] == "True"
    assert next(one for one in made if "+192+" in one and "webp" in one) in unquote(note)


def test_inception_alone_is_called_fid():
    event = {"event": "eval", "images": 1, "time": 1.0, "fid": 2.0}
    assert [sync.metrics([event], name)[0].key for name in ("inception", "small-conv")] == [
        "fid",
        "frechet_small-conv",
    ]


def test_further_distances_are_metrics_under_their_own_names():
    event = {"event": "eval", "images": 1, "time": 1.0, "fid": 2.0, "mean_spread": 0.3, "beside": {"cifar-net": "nan"}}
    found = {point.key: point.value for point in sync.metrics([event], "small-conv")}
    assert found.keys() == {"frechet_small-conv", "mean_spread", "frechet_cifar-net"}
    assert found["mean_spread"] == 0.3 and math.isnan(found["frechet_cifar-net"])


def test_again_changes_nothing_and_more_is_added(root, second):
    assert sync.sync(root, "tiny").changed == 2
    before = histories(sync.default_uri(root))
    assert sync.sync(root, "tiny").changed == 0
    assert histories(sync.default_uri(root)) == before
    write(second.folder(root), second.config, 6, done=True)
    summary = sync.sync(root, "tiny")
    assert (summary.changed, summary.points) == (1, 3 * 6)
    assert len(histories(sync.default_uri(root))[second.id, "loss"]) == 6


def test_a_resumed_log_with_other_clocks_gives_no_duplicate(root, second):
    sync.sync(root, "tiny")
    write(second.folder(root), second.config, 2, clock=5000.0)  # cut back to a checkpoint and written again
    path, resumed = (
        second.folder(root).events,
        encode({"event": "resume", "images": 64, "time": 5003.0, "note": ""}) + "\n",
    )
    path.write_text(path.read_text() + resumed)
    sync.sync(root, "tiny")
    write(second.folder(root), second.config, 6, done=True, clock=5000.0)
    path.write_text(path.read_text().replace('{"event": "end"', resumed + '{"event": "end"'))
    sync.sync(root, "tiny")
    assert [step for step, *_ in histories(sync.default_uri(root))[second.id, "loss"]] == [32 * i for i in range(1, 7)]


def test_a_torn_last_line_waits(root, second):
    path = second.folder(root).events
    whole = path.read_text()
    path.write_text(whole[:-30])
    sync.sync(root, "tiny")
    path.write_text(whole)
    sync.sync(root, "tiny")
    assert len(histories(sync.default_uri(root))[second.id, "frechet_small-conv"]) == 2


def test_what_is_not_finite_stays_named(root, second):
    """A later pass adds to the tag and does not replace it; nothing of it is a number."""
    sync.sync(root, "tiny")
    write(second.folder(root), second.config, 6, done=True, status="diverged")
    path = second.folder(root).events
    path.write_text(path.read_text().replace('"loss": 0.2,', '"loss": "inf",'))
    sync.sync(root, "tiny")
    run = by_run(sync.default_uri(root))[second.id]
    assert run.data.tags["not_finite"] == "frechet_small-conv: nan at 64 images; loss: inf at 160 images"
    assert (run.info.status, run.data.tags["status"], run.data.tags["reason"]) == ("FAILED", "diverged", "loss is nan")
    assert 160 not in [step for step, *_ in histories(sync.default_uri(root))[second.id, "loss"]]


def test_a_killed_run_does_not_run_for_ever_and_may_come_back(root, second):
    folder = second.folder(root)

    def status():
        sync.sync(root, "tiny")
        run = by_run(sync.default_uri(root))[second.id]
        return run.data.tags["status"], run.info.status

    assert status() == ("running", "RUNNING")
    own(folder, dead())
    assert status() == ("stopped", "KILLED")
    own(folder)
    assert status() == ("running", "RUNNING")
    folder.lock.unlink()
    assert status() == ("stopped", "KILLED")
    folder.fail(RuntimeError("no memory"))
    assert status() == ("failed", "FAILED")
    own(folder)  # tried again
    assert status() == ("running", "RUNNING")


def test_a_pass_that_dies_after_any_request_loses_and_duplicates_nothing(root, second, schema, monkeypatch):
    """And the run is cut back and written again under other clocks before the next pass."""
    with_report(root)
    with monkeypatch.context() as patch:
        requests = die_after(patch, 0)
        sync.sync(root, "tiny")
        write(second.folder(root), second.config, 6, done=True)
        sync.sync(root, "tiny")
    expected = content(root)
    for k in range(1, len(requests) + 1):
        shutil.rmtree(root / "mlartifacts")
        shutil.copy(schema, root / "mlflow.db")
        shutil.rmtree(second.folder(root).path)
        write(second.folder(root), second.config, 3)
        with monkeypatch.context() as patch:
            die_after(patch, k)
            with pytest.raises(Died):
                sync.sync(root, "tiny")
                write(second.folder(root), second.config, 6, done=True)
                sync.sync(root, "tiny")
        shutil.rmtree(second.folder(root).path)
        write(second.folder(root), second.config, 1, clock=5000.0)  # fewer events than may have been sent
        sync.sync(root, "tiny")
        write(second.folder(root), second.config, 6, done=True, clock=5000.0)
        sync.sync(root, "tiny")
        assert content(root) == expected, (k, requests[k - 1])


def test_the_database_can_be_made_again(root, schema):
    sync.sync(root, "tiny")
    before = content(root)
    shutil.copy(schema, root / "mlflow.db")
    shutil.rmtree(root / "mlartifacts")
    sync.sync(root, "tiny")
    assert content(root) == before


@pytest.mark.parametrize("request_number", [1, 2, 4])
def test_a_run_that_was_trained_again_is_projected_anew(root, second, monkeypatch, request_number):
    """Other numbers under the same name; also where the pass dies in the middle of it."""
    sync.sync(root, "tiny")
    shutil.rmtree(second.folder(root).path)
    write(second.folder(root), second.config, 3, start=7000.0, loss=2.0)
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_after(patch, request_number)
        sync.sync(root, "tiny")
    again = sync.sync(root, "tiny")
    assert again.changed == 1 and again.points <= 3 * 6 - 1
    shutil.rmtree(second.folder(root).path)
    write(second.folder(root), second.config, 3, start=8000.0, loss=2.0)
    summary = sync.sync(root, "tiny")
    assert (summary.changed, summary.points, summary.anew) == (1, 3 * 6 - 1, 1) and "1 that were trained again" in str(
        summary
    )
    assert [value for _, value, _ in histories(sync.default_uri(root))[second.id, "loss"]] == [2.0, 1.0, 2.0 / 3]
    assert sync.sync(root, "tiny").changed == 0


def test_two_sweeps_of_one_name_do_not_mix(root, second, tmp_path_factory):
    """In one line that names the other, before anything is written; a copy or a moved root is the same sweep."""
    uri, copy, other = (
        sync.default_uri(root),
        tmp_path_factory.mktemp("copy") / "runs",
        tmp_path_factory.mktemp("other"),
    )
    sync.sync(root, "tiny")
    shutil.copytree(root, copy)
    shutil.copytree(root / "tiny", other / "tiny")
    assert sync.sync(copy, "tiny", uri).changed == 0
    assert sync.sync(other, "tiny", uri).points == 0  # the folder of the suite alone, in another root
    sync.sync(root, "tiny", uri)
    before = content(root)
    write(second.folder(other), second.config, 6, done=True, start=7000.0, loss=2.0)
    with pytest.raises(
        BadInput, match=f"MLflow has another training of {second.id}, synced from .*:{root}/tiny; two sweeps"
    ) as caught:
        sync.sync(other, "tiny", uri)
    assert "\n" not in str(caught.value) and content(root) == before
    write(second.folder(copy), second.config, 3, start=8000.0, loss=3.0)  # moved, and trained again there
    assert sync.sync(copy, "tiny", uri).anew == 1


@pytest.mark.parametrize("name", ["a b", "100%25", "why?", "a#b", "ä"])
def test_a_root_of_any_name(root, tmp_path_factory, name):
    moved = tmp_path_factory.mktemp("odd") / name
    shutil.copytree(root, moved)
    sync.sync(moved, "tiny")
    assert len(by_run(sync.default_uri(moved))) == 3 and list((moved / "mlartifacts").rglob("images/*+192+*.png"))


def test_neither_mlflow_nor_torch_is_imported_before_it_is_needed():
    code = "import sys; from bench.tracking import sync; print([m for m in ('mlflow', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"
