"""The prepared store: whole or not there, and every damage is found."""

import errno
import fcntl
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import datasets
from bench.cli.parser import main
from datasets import Options, Store, Writer
from datasets.digits import DATASET


def test_digits_are_scikit_learns(tmp_path):
    from sklearn.datasets import load_digits

    store = datasets.prepare("digits", tmp_path)
    assert (store.count, store.shape) == (1797, (1, 8, 8))
    assert store.images.dtype == np.uint8 and isinstance(store.images, np.memmap) and not store.images.flags.writeable
    assert np.abs(store.images[:, 0] / 255 * 16 - load_digits().images).max() < 16 / 255 / 2 + 1e-9
    assert store.verify() == []


def test_preparing_twice_gives_the_same_digest(tmp_path):
    first = datasets.prepare("digits", tmp_path / "a")
    assert datasets.prepare("digits", tmp_path / "b").digest == first.digest
    before = (first.path / "images.npy").stat().st_mtime_ns
    datasets.prepare("digits", tmp_path / "a")
    assert (first.path / "images.npy").stat().st_mtime_ns == before  # what is there is left alone


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path, DATASET) as writer:
        writer.write("images", np.zeros((3, 1, 8, 8), np.uint8))
        raise RuntimeError("power")
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(("classes", "labels"), [(0, True), (2, False)])
def test_labels_are_written_where_the_dataset_has_classes(tmp_path, classes, labels):
    message = f"dataset digits: prepare wrote {'' if labels else 'no '}labels, its Dataset says classes={classes}"
    with pytest.raises(ValueError, match=message), Writer(tmp_path, replace(DATASET, classes=classes)) as writer:
        writer.write("images", np.zeros((3, 1, 8, 8), np.uint8))
        if labels:
            writer.write("labels", np.zeros(3, np.int64))
    assert not Store.exists(tmp_path, "digits")


def test_a_store_of_before_its_dataset_changed_is_refused(tmp_path, monkeypatch, capsys):
    """By everything that asks for it by its name; one that is not there any more is prepared again."""
    datasets.prepare("digits", tmp_path)
    monkeypatch.setitem(datasets.DATASETS, "digits", replace(DATASET, classes=2))
    told = f"{tmp_path / 'digits'} was prepared as 1x8x8 with condition none, the dataset is 1x8x8 with class: delete"
    with pytest.raises(ValueError, match=told):
        datasets.prepare("digits", tmp_path)
    for action, code in (("prepare", 2), ("verify", 1)):
        assert main(["data", action, "digits", "--data", str(tmp_path)]) == code
        assert told in "".join(capsys.readouterr())


def refuse(*words, **options):
    raise OSError(errno.ENOTSUP, "Operation not supported")


def test_a_file_system_without_links_and_locks(tmp_path, monkeypatch):
    for module, name in ((os, "link"), (fcntl, "flock"), (fcntl, "lockf")):
        monkeypatch.setattr(module, name, refuse)
    datasets.prepare("digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_of_two_writers_the_second_waits_and_finds_the_store(tmp_path, capsys):
    with Writer(tmp_path, DATASET) as writer, ThreadPoolExecutor(1) as pool:
        second = pool.submit(datasets.prepare, "digits", tmp_path)
        until = time.monotonic() + 20
        while not (said := capsys.readouterr().err) and time.monotonic() < until:
            time.sleep(0.05)
        assert "another process prepares it" in said and not second.done()
        DATASET.prepare(writer, Options())
        writer.__exit__(None)
        assert second.result(20).count == 1797


def test_a_changed_byte_is_found(tmp_path):
    store = datasets.prepare("digits", tmp_path)
    file = store.path / "images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert Store.open(tmp_path, "digits").verify() == [f"{file}: sha256 differs from the manifest's"]


def change(path, how):
    content = json.loads((path / "manifest.json").read_text())
    how(content)
    (path / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("verb", ["list", "verify"])
def test_a_damaged_store_hides_no_other(tmp_path, capsys, verb):
    change(datasets.prepare("digits", tmp_path).path, lambda m: m["files"].update({"images.npy": 3}))
    patches = datasets.prepare("patches", tmp_path)
    assert main(["data", verb, "--data", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert (patches.digest[:12] if verb == "list" else "patches: 1 files, every digest") in said.out
    assert (said.out + said.err).count("is damaged at files: images.npy") == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "images.npy").write_bytes(b"short"), "has 5 bytes, expected"),
        (lambda path: (path / "images.npy").unlink(), "has None bytes, expected"),
        (lambda path: (path / "manifest.json").write_text("{"), "is not JSON"),
        (lambda path: (path / "manifest.json").write_text(json.dumps({"format": 99})), "not of format 1"),
        (lambda path: (path / "manifest.json").unlink(), "not prepared in"),
        (
            lambda path: change(path, lambda m: m["files"].update({"images.npy": 3})),
            "is damaged at files: images.npy: bytes",
        ),
        (
            lambda path: change(path, lambda m: m["files"]["images.npy"].update(bytes="many")),
            "is damaged at files: images.npy: bytes",
        ),
        (
            lambda path: change(path, lambda m: m["files"]["images.npy"].pop("sha256")),
            "is damaged at files: images.npy: sha256",
        ),
        (lambda path: change(path, lambda m: m.update(count="many")), "is damaged at count"),
        (lambda path: change(path, lambda m: m.update(digest=None)), "is damaged at digest"),
        (lambda path: change(path, lambda m: m.update(shape=[1, 8])), "is damaged at shape"),
        (lambda path: change(path, lambda m: m.update(files=[])), "is damaged at files"),
        (lambda path: change(path, lambda m: m.update(partial=True)), "is damaged at published"),
        (lambda path: change(path, lambda m: m.update(reference={"array": 1})), "is damaged at reference: array"),
        (lambda path: change(path, lambda m: m.update(codec=[])), "is damaged at codec: kind"),
    ],
)
def test_a_damaged_store_is_refused_in_one_line(tmp_path, damage, message):
    damage(datasets.prepare("digits", tmp_path).path)
    with pytest.raises(ValueError, match=message) as caught:
        Store.open(tmp_path, "digits")
    assert "\n" not in str(caught.value)


def test_an_unknown_dataset_names_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match=r"dataset: 'digit' is unknown; choose from cifar10, .*digits"):
        datasets.prepare("digit", tmp_path)
