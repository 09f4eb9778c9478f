"""Every reader on originals in the publisher's own format, against a plain, slow PIL implementation of the recipe."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import miniatures
import numpy as np
import pytest
from PIL import Image

import datasets
from bench.cli.parser import main
from bench.errors import is_bad_input
from datasets import Options, Store, celeba64, cifar10, imagenet64


def prepare(name, source, root, **options):
    return datasets.prepare(name, root, Options(source=source, **{"partial": True, "workers": 1, **options}))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


# Contents


def test_cifar10_from_the_archive_and_from_the_folder(source, tmp_path):
    images = miniatures.cifar10(source)
    packed = prepare("cifar10", source, tmp_path / "a")
    assert np.array_equal(packed.images, images) and packed.images.dtype == np.uint8
    assert packed.manifest["partial"] and packed.manifest["published"] == 50_000
    with tarfile.open(source / "cifar-10-python.tar.gz") as archive:
        archive.extractall(source / "unpacked", filter="data")
    folder = source / "unpacked" / "cifar-10-batches-py"
    assert prepare("cifar10", folder, tmp_path / "b").digest == packed.digest


def test_cifar10_at_half_the_size(source, tmp_path):
    images = miniatures.cifar10(source).reshape(20, 3, 16, 2, 16, 2)
    store = prepare("cifar10-16", source, tmp_path)
    assert store.shape == (3, 16, 16) and store.labels.tolist() == [*range(10)] * 2
    assert np.array_equal(store.images, np.floor(images.mean((3, 5)) + 0.5))


def test_cifar10_reads_old_numpys_names(source, tmp_path):
    """The published pickles name numpy.core.multiarray; what we pickle today names numpy._core."""
    images = miniatures.cifar10(source)
    with tarfile.open(source / "cifar-10-python.tar.gz") as archive:
        content = {m.name: archive.extractfile(m).read() for m in archive}
    (source / "cifar-10-python.tar.gz").unlink()
    folder = source / "cifar-10-batches-py"
    folder.mkdir()
    for name, pickled in content.items():
        (source / name).write_bytes(pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert np.array_equal(prepare("cifar10", source, tmp_path).images, images)


@pytest.mark.parametrize("packed", [False, True])
def test_celeba64_crops_as_the_recipe_says(source, tmp_path, packed):
    names = miniatures.celeba(source, packed=packed)
    store = prepare("celeba64", source, tmp_path)
    assert store.images.shape == (4, 3, 64, 64) and store.manifest["reference"] == {"array": "images", "count": 4}
    for i, name in enumerate(names):
        original = np.asarray(Image.open(io.BytesIO(miniatures.jpeg(miniatures.noise(i, 178, 218)))))
        face = Image.fromarray(original[57:185, 25:153]).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(store.images[i], np.asarray(face).transpose(2, 0, 1)), name


def slow_shrink(content: bytes, size: int = 64) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size].transpose(2, 0, 1)


def test_imagenet64_from_the_folder_and_from_the_tar_of_tars(source, tmp_path):
    miniatures.imagenet_folder(source)
    store = prepare("imagenet64", source / "train", tmp_path / "a", workers=2)
    expected = [slow_shrink(content) for _, content in sorted(miniatures.imagenet().items())]
    assert np.array_equal(store.images, expected)
    assert store.labels.tolist() == [0, 0, 1, 2, 2] and store.condition == "class"
    other = source.parent / "other"
    other.mkdir()
    assert prepare("imagenet64", miniatures.imagenet_tar(other), tmp_path / "b").digest == store.digest


def test_imagenet256_stores_latents_and_labels(source, tmp_path, networks, monkeypatch):
    """The images of imagenet64, cut alike at 256; a part of them is what samples are measured against."""
    import torch

    from datasets import codecs, imagenet256

    monkeypatch.setattr(imagenet256, "REFERENCE", 2)
    miniatures.imagenet_folder(source)
    vae = str(networks["autoencoder"].parent)
    store = prepare("imagenet256", source, tmp_path / "data", autoencoder=vae)
    assert (store.count, store.shape, store.condition) == (5, (4, 32, 32), "class") and store.partial
    assert store.labels.tolist() == [0, 0, 1, 2, 2] and store.codec.scale == 0.18215
    cut = np.stack([slow_shrink(content, 256) for _, content in sorted(miniatures.imagenet().items())])
    assert np.array_equal(store.reference, cut[[0, 2]])
    latent = codecs.load_autoencoder(vae).encode(torch.from_numpy(cut[3:4]) / 127.5 - 1).latent_dist
    wanted = torch.cat([latent.mean, latent.logvar], dim=1)[0].half().numpy()
    assert np.allclose(store.moments[3], wanted, atol=2e-3)
    assert store.codec.decode(torch.zeros(1, 4, 32, 32)).shape == (1, 3, 256, 256)
    with pytest.raises(ValueError, match=r"--text-encoder: is not used by imagenet256; only by coco256$"):
        prepare("imagenet256", source, tmp_path / "other", text_encoder=vae)


@pytest.mark.parametrize("packed", [False, True])
def test_coco256_stores_what_the_networks_say(source, tmp_path, packed):
    pytest.importorskip("diffusers", reason="the extra is not installed: make latent")
    pytest.importorskip("transformers")
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    captions = miniatures.coco(source, packed=packed)
    networks = tmp_path / "networks"
    networks.mkdir()
    vae, clip = miniatures.latent_networks(networks)
    store = prepare("coco256", source, tmp_path / "data", autoencoder=str(vae), text_encoder=str(clip))
    assert (store.count, store.shape, store.condition) == (3, (4, 32, 32), "text")
    assert store.first.tolist() == [0, 6, 11, 12] and store.val_texts.shape == (7, 77, 768)

    names = list(captions["train2014"])
    module = AutoencoderKL.from_pretrained(vae)
    for i, image in enumerate((9, 25, 30)):
        original = Image.open(io.BytesIO(miniatures.jpeg(miniatures.noise(image, 320 + image, 240))))
        left = (original.width - 240) // 2
        square = original.crop((left, 0, left + 240, 240)).resize((256, 256), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
        with torch.no_grad():
            latent = module.encode(pixels).latent_dist
        wanted = torch.cat([latent.mean, latent.logvar], dim=1)[0].half().numpy()
        assert np.allclose(store.moments[i], wanted, atol=2e-3), names[i]

    tokenizer, model = CLIPTokenizer.from_pretrained(clip), CLIPTextModel.from_pretrained(clip)
    texts = [text for name in names for text in captions["train2014"][name]]
    for row, text in ((0, texts[0]), (5, texts[5]), (11, texts[11]), (None, "")):
        ids = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted = model(ids).last_hidden_state[0].half().numpy()
        assert np.allclose(store.empty if row is None else store.texts[row], wanted, atol=2e-3)
    assert store.codec.decode(torch.zeros(2, 4, 32, 32)).shape == (2, 3, 256, 256)
    assert store.reference.shape == (2, 3, 256, 256) and store.reference.dtype == np.uint8


@pytest.fixture
def networks(tmp_path):
    """Folders of a random autoencoder and text encoder, and the file of weights in each."""
    pytest.importorskip("diffusers", reason="the extra is not installed: make latent")
    pytest.importorskip("transformers")
    folder = tmp_path / "networks"
    folder.mkdir()
    vae, clip = miniatures.latent_networks(folder)
    return {"autoencoder": vae / "diffusion_pytorch_model.safetensors", "text_encoder": clip / "model.safetensors"}


def renamed(weights):
    return {f"other.{key}": value for key, value in weights.items()}


def reshaped(weights):
    key = min(weights)
    return weights | {key: weights[key].new_zeros(3, 5)}


@pytest.mark.parametrize("option", ["autoencoder", "text_encoder"])
@pytest.mark.parametrize(
    ("damage", "said"), [(renamed, "has no weights for"), (reshaped, "cannot be loaded"), (None, "cannot be loaded")]
)
def test_weights_of_another_network_are_refused(source, tmp_path, networks, option, damage, said):
    """The libraries only warn of missing weights, and leave them random."""
    from safetensors.torch import load_file, save_file

    miniatures.coco(source)
    file = networks[option]
    if damage:
        save_file(damage(load_file(file)), file, metadata={"format": "pt"})
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=said) as caught:
        prepare("coco256", source, tmp_path, **{name: str(path.parent) for name, path in networks.items()})
    assert (
        str(caught.value).startswith(f"--{option.replace('_', '-')}: ")
        and "\n" not in str(caught.value)
        and is_bad_input(caught.value)
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("autoencoder", "gives (16, 32, 32), expected (8, 32, 32)"),
        ("text_encoder", "gives (77, 512), expected (77, 768)"),
    ],
)
def test_networks_of_another_kind_are_refused_before_the_work(source, tmp_path, networks, monkeypatch, option, said):
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    miniatures.coco(source)
    folder = networks[option].parent
    kind, config = (
        (AutoencoderKL, {"latent_channels": 8}) if option == "autoencoder" else (CLIPTextModel, {"hidden_size": 512})
    )
    if kind is AutoencoderKL:
        AutoencoderKL.from_config(AutoencoderKL.load_config(folder) | config).save_pretrained(folder)
    else:
        CLIPTextModel(CLIPTextConfig.from_pretrained(folder, **config)).save_pretrained(folder)
    monkeypatch.setattr("datasets.coco256.fill", None)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        prepare("coco256", source, tmp_path, **{name: str(path.parent) for name, path in networks.items()})
    assert "\n" not in str(caught.value) and is_bad_input(caught.value)


@pytest.mark.parametrize("option", ["autoencoder", "text_encoder"])
def test_other_weights_in_the_same_folder_begin_anew(source, tmp_path, networks, monkeypatch, option):
    from safetensors.torch import load_file, save_file

    from datasets import coco256, parallel

    miniatures.coco(source)
    options = {name: str(path.parent) for name, path in networks.items()}

    def fill(path, items, shape, dtype, task, workers, about):
        parallel.fill(path, items, shape, dtype, task, 0, about)
        if about == "texts":
            raise KeyboardInterrupt

    monkeypatch.setattr(coco256, "fill", fill)
    with pytest.raises(KeyboardInterrupt):
        prepare("coco256", source, tmp_path / "a", **options)
    monkeypatch.setattr(coco256, "fill", in_process)
    weights = load_file(networks[option])
    save_file({key: value * 1.1 for key, value in weights.items()}, networks[option], metadata={"format": "pt"})
    resumed = prepare("coco256", source, tmp_path / "a", **options)
    assert resumed.digest == prepare("coco256", source, tmp_path / "b", **options).digest


def test_optional_extras_import_beside_our_datasets():
    pytest.importorskip("diffusers", reason="the extra is not installed: make latent")
    import transformers

    assert datasets.__file__.endswith("datasets/__init__.py") and hasattr(datasets, "DATASETS")
    assert transformers.CLIPTextModel and datasets.get("digits")


# Interruption


def test_an_interrupted_preparation_goes_on_and_ends_with_the_same_digest(source, tmp_path, monkeypatch):
    miniatures.celeba(source, count=12)
    whole = prepare("celeba64", source, tmp_path / "a")
    converted = []

    def convert(items):
        converted.extend(item.name for item in items)
        if len(converted) == 7:
            raise KeyboardInterrupt
        return np.stack([celeba64._one(item) for item in items])

    monkeypatch.setattr("datasets.parallel.CHUNK", 2)
    monkeypatch.setattr("datasets.parallel.FLUSH", 0)
    monkeypatch.setattr("datasets.celeba64.fill", in_process)
    converted.append("one more, so that the seventh is in the middle")
    monkeypatch.setattr("datasets.celeba64.convert", convert)
    with pytest.raises(KeyboardInterrupt):
        prepare("celeba64", source, tmp_path / "b")
    assert not Store.exists(tmp_path / "b", "celeba64")
    first, converted[:] = list(converted), []
    store = prepare("celeba64", source, tmp_path / "b")
    assert store.digest == whole.digest and store.verify() == []
    assert 0 < len(converted) < 10 and converted[0] == first[-2]  # goes on with the chunk that was broken off
    assert not list((tmp_path / "b").glob(".*.partial"))


def test_other_originals_do_not_go_on_where_the_first_stopped(source, tmp_path, monkeypatch):
    miniatures.celeba(source, count=8)
    monkeypatch.setattr("datasets.parallel.CHUNK", 2)
    monkeypatch.setattr("datasets.parallel.FLUSH", 0)
    monkeypatch.setattr("datasets.celeba64.fill", in_process)
    seen = []

    def convert(items):
        seen.extend(items)
        if len(seen) > 4:
            raise KeyboardInterrupt
        return celeba64_convert(items)

    celeba64_convert = celeba64.convert
    monkeypatch.setattr("datasets.celeba64.convert", convert)
    with pytest.raises(KeyboardInterrupt):
        prepare("celeba64", source, tmp_path / "b")
    monkeypatch.setattr("datasets.celeba64.convert", celeba64_convert)
    (source / "img_align_celeba" / "000001.jpg").write_bytes(miniatures.jpeg(miniatures.noise(99, 178, 218)))
    store = prepare("celeba64", source, tmp_path / "b")
    assert np.array_equal(
        store.images[0], celeba64.convert(celeba64.originals.items(source / "img_align_celeba")[:1])[0]
    )


def in_process(path, items, shape, dtype, task, workers, about):
    from datasets import parallel

    return parallel.fill(path, items, shape, dtype, task, 0, about)


@pytest.mark.parametrize("mark", ["3", "", "x", "-1", "null", "1e9", "[3]", "9"])
@pytest.mark.parametrize("size", [0, 40, 250])
def test_a_mark_is_believed_only_if_the_file_has_the_rows(tmp_path, mark, size):
    """Either may have lost bytes when the power went; a file of four rows has 144 bytes."""
    from datasets import parallel

    path = tmp_path / "images.npy"
    task = lambda items: np.array(items, np.uint8)[:, None].repeat(4, 1)
    parallel.fill(path, [1, 2, 3, 4], (4,), np.uint8, task, 0, "rows")
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    (tmp_path / "images.progress").write_text(mark)
    parallel.fill(path, [1, 2, 3, 4], (4,), np.uint8, task, 0, "rows")
    assert path.read_bytes() == whole


def test_tasks_are_small_in_bytes_whatever_the_rows_are(tmp_path):
    """So many workers stay within little memory: 64 rows of 256 pixels would be 13 MB a task."""
    from datasets import parallel

    asked = []
    task = lambda items: asked.append(len(items)) or np.zeros((len(items), 3, 256, 256), np.uint8)
    parallel.fill(tmp_path / "a.npy", range(12), (3, 256, 256), np.uint8, task, 0, "rows")
    assert asked == [5, 5, 2]


def test_cores_where_the_system_does_not_say_which_may_be_used(monkeypatch):
    from datasets import parallel

    monkeypatch.delattr(parallel.os, "sched_getaffinity")
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 3)
    assert parallel.cores() == 3


# Bad input


def refused(name, source, root, partial=True, workers=1):
    """The one line with which the command refuses it, with exit code 2; nothing that could be read is left."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(
            [
                "data",
                "prepare",
                name,
                "--source",
                str(source),
                "--data",
                str(root),
                "--workers",
                str(workers),
                *(["--partial"] if partial else []),
            ]
        )
    (message,) = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    assert code == 2 and not Store.exists(root, name)
    return message


def test_another_count_needs_partial(source, tmp_path):
    miniatures.cifar10(source)
    message = refused("cifar10", source, tmp_path, partial=False)
    assert "20 images, cifar10 has 50,000; give --partial" in message and "cifar-10-python.tar.gz" in message


def test_a_truncated_archive_names_the_file(source, tmp_path):
    miniatures.cifar10(source, per_batch=50)
    archive = source / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-3000])
    assert f"{archive}: not a whole archive" in refused("cifar10", source, tmp_path)
    path = miniatures.imagenet_tar(source)
    path.write_bytes(path.read_bytes()[:30_000])
    assert f"{path}: " in refused("imagenet64", path, tmp_path)
    miniatures.celeba(source, packed=True)
    zipped = source / "img_align_celeba.zip"
    zipped.write_bytes(zipped.read_bytes()[:-500])
    assert f"{zipped}: not a whole archive" in refused("celeba64", source, tmp_path)


def test_a_damaged_member_of_a_zip_is_named(source, tmp_path):
    miniatures.celeba(source, packed=True)
    path = source / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[2000] ^= 0xFF
    path.write_bytes(content)
    assert "000001.jpg cannot be read (Bad CRC-32" in refused("celeba64", source, tmp_path)


def test_a_changed_byte_is_found_by_the_archives_checksum(source, tmp_path):
    """In pixels that were stored as they are nothing else would show it."""
    miniatures.cifar10(source)
    path = source / "cifar-10-python.tar.gz"
    unpacked = gzip.decompress(path.read_bytes())
    content = bytearray(gzip.compress(unpacked, compresslevel=0))
    content[content.find(b"data_batch_1") + 4000] ^= 1
    path.write_bytes(content)
    assert f"{path}: not a whole archive (CRC check failed" in refused("cifar10", source, tmp_path)


@pytest.mark.parametrize("data", [np.zeros((2, 3072)), np.full((2, 3072), 300), np.zeros((2, 1024), np.uint8), "text"])
def test_a_batch_of_something_else_is_refused(source, tmp_path, data):
    folder = source / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": data}, protocol=2))
    assert f"{folder / 'data_batch_1'}: data_batch_1 is no batch of CIFAR-10" in refused("cifar10", source, tmp_path)


def test_the_wrong_archive_is_refused(source, tmp_path):
    with tarfile.open(source / "cifar-10-python.tar.gz", "w:gz") as archive:
        miniatures.add(archive, "cifar-100-python/train", b"x")
    assert "cifar-100-python/train is of CIFAR-100, which is other data" in refused("cifar10", source, tmp_path)


def test_two_batches_of_one_name_are_refused(source, tmp_path):
    batch = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}, protocol=2)
    with tarfile.open(source / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("cifar-10-batches-py/data_batch_1", "other/data_batch_1"):
            miniatures.add(archive, name, batch)
    assert "cifar-10-batches-py/data_batch_1 and other/data_batch_1 are both data_batch_1" in refused(
        "cifar10", source, tmp_path
    )


def test_a_pickle_that_runs_code_is_refused(source, tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("pwned",)

    folder = source / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
    assert "data_batch_1 is no batch of CIFAR-10 (asks for builtins.print)" in refused("cifar10", source, tmp_path)
    assert cifar10.ALLOWED.isdisjoint({("builtins", "eval"), ("builtins", "print")})


def test_a_missing_partition_file_is_named(source, tmp_path):
    miniatures.celeba(source)
    (source / "list_eval_partition.txt").unlink()
    message = refused("celeba64", source, tmp_path)
    assert f"{source / 'img_align_celeba'}: list_eval_partition.txt is missing in it and beside" in message


def test_a_partition_file_of_something_else_is_named(source, tmp_path):
    miniatures.celeba(source)
    (source / "list_eval_partition.txt").write_text("000001.jpg 0\n<html>\n")
    assert "'<html>' is not an image and its split" in refused("celeba64", source, tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda whole: whole[:700], "image file is truncated"), (lambda _: b"<html>", "no image format is recognised")],
)
def test_an_image_that_does_not_decode_is_named(source, tmp_path, damage, said):
    """What a worker process raises is one line too."""
    miniatures.celeba(source)
    broken = source / "img_align_celeba" / "000002.jpg"
    broken.write_bytes(damage(broken.read_bytes()))
    assert f"{broken}: the image 000002.jpg does not decode ({said}" in refused("celeba64", source, tmp_path)


def test_damage_is_bad_input_in_this_process_too(source, tmp_path):
    miniatures.celeba(source)
    broken = source / "img_align_celeba" / "000002.jpg"
    broken.write_bytes(b"")
    with pytest.raises(ValueError, match=r"000002\.jpg does not decode") as caught:
        celeba64.originals.items(source / "img_align_celeba")[1].image()
    assert is_bad_input(caught.value) and is_bad_input(pickle.loads(pickle.dumps(caught.value)))


@pytest.mark.parametrize(
    ("patch", "said"), [((8, 1), "is encrypted"), ((10, 99), "compression method is not supported")]
)
def test_a_zip_that_cannot_be_unpacked_is_named(source, tmp_path, patch, said):
    miniatures.celeba(source, packed=True)
    path = source / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + patch[0]] = patch[1]  # flags or compression in the directory of the archive
    path.write_bytes(content)
    message = refused("celeba64", source, tmp_path)
    assert str(path) in message and said in message


def test_two_files_of_one_name_are_refused(source, tmp_path):
    miniatures.celeba(source)
    (source / "img_align_celeba" / "again").mkdir()
    (source / "img_align_celeba" / "again" / "000001.jpg").write_bytes(b"other")
    assert re.search(r"000001\.jpg and \S*000001\.jpg are both 000001\.jpg", refused("celeba64", source, tmp_path))


def test_a_worker_that_is_killed_is_one_line(source, tmp_path, monkeypatch):
    miniatures.celeba(source)
    monkeypatch.setattr("datasets.celeba64.convert", die)
    assert "a worker process was ended from outside" in refused("celeba64", source, tmp_path)


def die(items):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_picture_of_another_size_is_no_aligned_face(source, tmp_path):
    miniatures.celeba(source)
    (source / "img_align_celeba" / "000003.jpg").write_bytes(miniatures.jpeg(miniatures.noise(1, 200, 218)))
    assert "000003.jpg is 200x218, aligned faces are 178x218" in refused("celeba64", source, tmp_path)


def test_captions_of_other_images_are_refused(source, tmp_path):
    miniatures.coco(source)
    file = source / "annotations" / "captions_train2014.json"
    content = json.loads(file.read_text())
    content["images"] = [image | {"file_name": f"other{image['id']}.jpg"} for image in content["images"]]
    file.write_text(json.dumps(content))
    assert "captions_train2014.json: says nothing of COCO_train2014_000000000009.jpg" in refused(
        "coco256", source, tmp_path
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "not a COCO captions file"),
        (
            json.dumps(
                {
                    "images": [{"id": 9, "file_name": "a.jpg"}],
                    "annotations": [{"id": 1, "image_id": 9, "caption": None}],
                }
            ),
            "not a COCO captions file",
        ),
    ],
)
def test_a_captions_file_of_something_else_is_refused(source, tmp_path, content, said):
    miniatures.coco(source)
    (source / "annotations" / "captions_train2014.json").write_text(content)
    message = refused("coco256", source, tmp_path)
    assert "captions_train2014.json" in message and said in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda images: images[0].update(file_name=images[1]["file_name"]),
            "the images 9 and 25 have one file, COCO_train2014_000000000025.jpg",
        ),
        (lambda images: images[0].update(file_name=["a"]), "is no str"),
        (lambda images: images[0].update(id="9"), "'9' is no int"),
    ],
)
def test_images_of_another_kind_in_a_captions_file_are_refused(source, tmp_path, change, said):
    miniatures.coco(source)
    file = source / "annotations" / "captions_train2014.json"
    content = json.loads(file.read_text())
    change(content["images"])
    file.write_text(json.dumps(content))
    message = refused("coco256", source, tmp_path)
    assert "captions_train2014.json: " in message and said in message


def test_a_device_that_is_not_there_is_refused(source, tmp_path, monkeypatch):
    miniatures.coco(source)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="--device: 'cuda' is not there"):
        prepare("coco256", source, tmp_path, device="cuda")


def test_a_part_is_not_taken_for_the_whole(source, tmp_path, capsys):
    """A store made with --partial needs the word again."""
    miniatures.cifar10(source)
    kept = prepare("cifar10", source, tmp_path)
    where = ["data", "prepare", "cifar10", "--source", str(source), "--data", str(tmp_path)]
    assert main([*where, "--partial"]) == 0 and main(where) == 2
    assert f"{kept.path} holds 20 of 50,000 images" in capsys.readouterr().err
    assert Store.open(tmp_path, "cifar10").verify() == []


def test_a_folder_without_a_manifest_is_found_before_the_work(source, tmp_path):
    miniatures.cifar10(source)
    (tmp_path / "cifar10").mkdir()
    assert f"{tmp_path / 'cifar10'} is there but has no manifest" in refused("cifar10", source, tmp_path)


def test_workers_end_when_their_parent_is_killed(source, tmp_path):
    """Else they would wait for work for ever."""
    script = (
        "import os, sys; from datasets import parallel; from concurrent.futures import ProcessPoolExecutor as Pool;"
        "pool = Pool(1, parallel.multiprocessing.get_context('spawn'), parallel.leave_with_parent);"
        "print(pool.submit(os.getpid).result(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    worker = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 20
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert done.returncode == -signal.SIGKILL and not worker.exists()


def test_two_sources_for_the_same_images_are_refused(source, tmp_path):
    miniatures.celeba(source)
    shutil.copytree(source / "img_align_celeba", source / "backup" / "img_align_celeba")
    message = refused("celeba64", source, tmp_path)
    assert f"{source / 'backup' / 'img_align_celeba'} are two sources; move one away" in message


def test_a_name_that_is_twice_in_an_archive_is_refused(source, tmp_path):
    miniatures.celeba(source, packed=True)
    with pytest.warns(UserWarning), zipfile.ZipFile(source / "img_align_celeba.zip", "a") as archive:
        archive.writestr("img_align_celeba/000001.jpg", b"again")
    assert "img_align_celeba/000001.jpg are both 000001.jpg" in refused("celeba64", source, tmp_path)


def test_loose_images_belong_to_no_class(source, tmp_path):
    miniatures.imagenet_folder(source)
    (source / "train" / "stray.JPEG").write_bytes(b"x")
    assert "stray.JPEG lies in no class" in refused("imagenet64", source, tmp_path)


def test_a_full_disk_is_one_line_and_what_was_prepared_stays(source, tmp_path, monkeypatch):
    miniatures.cifar10(source)
    kept = prepare("cifar10", source, tmp_path)
    miniatures.celeba(source)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.parallel._save", full)
    message = refused("celeba64", source, tmp_path)
    assert "celeba64.partial/images.npy: No space left on device; what was prepared so far is kept" in message
    assert Store.open(tmp_path, "cifar10").verify() == [] and kept.count == 20
    monkeypatch.undo()
    assert prepare("celeba64", source, tmp_path).count == 4


def test_a_source_is_asked_for_and_refused_where_there_is_none(tmp_path):
    with pytest.raises(ValueError, match="data prepare imagenet64 --source PATH"):
        datasets.prepare("imagenet64", tmp_path)
    with pytest.raises(ValueError, match="digits needs no originals"):
        datasets.prepare("digits", tmp_path, Options(source=tmp_path))
    with pytest.raises(ValueError, match="--autoencoder: is not used by cifar10"):
        datasets.prepare("cifar10", tmp_path, Options(source=tmp_path, autoencoder="x"))


@pytest.mark.parametrize("what", ["wide", "square", "tall", "very tall", "tiny"])
def test_halving_is_pils_box_to_the_pixel(what):
    bits = np.random.default_rng(0)
    sides = {"wide": (500, 375), "square": (256, 256), "tall": (333, 500), "very tall": (130, 262), "tiny": (2, 2)}[
        what
    ]
    for width, height in {(sides[0] + i, sides[1] + j) for i in range(3) for j in range(3)} | {(130, 260), (130, 261)}:
        image = Image.fromarray(bits.integers(0, 256, (height, width, 3), dtype=np.uint8))
        wanted = image.resize((width // 2, height // 2), Image.Resampling.BOX)
        assert np.array_equal(imagenet64.halve(image), wanted), (width, height)


def test_shrinking_needs_no_square(source):
    assert imagenet64.shrink(miniatures.noise(0, 64, 300)).size == (64, 64)


# Downloading


@pytest.fixture
def served(source):
    """A server on loopback with the miniature archive; gives its address."""
    miniatures.cifar10(source)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
        server.shutdown()


def test_cifar10_is_fetched_through_torchvision(served, source, tmp_path, monkeypatch, capsys):
    archive = (source / "cifar-10-python.tar.gz").read_bytes()
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", served)
    monkeypatch.setattr("torchvision.datasets.CIFAR10.tgz_md5", hashlib.md5(archive).hexdigest())
    assert main(["data", "prepare", "cifar10", "--download", "--partial", "--data", str(tmp_path / "d")]) == 0
    assert (tmp_path / "d" / "originals" / "cifar10" / "cifar-10-python.tar.gz").read_bytes() == archive
    assert (
        Store.open(tmp_path / "d", "cifar10").count == 20 and "20 images of 50,000, partial" in capsys.readouterr().out
    )


def test_the_small_cifar10_is_fetched_where_it_is_needed(served, source, tmp_path, monkeypatch):
    """Unasked, and once; without a network one line says where to put the archive, and there it is found."""
    archive, folder = (source / "cifar-10-python.tar.gz").read_bytes(), tmp_path / "d" / "originals" / "cifar10-16"
    monkeypatch.setattr("torchvision.datasets.CIFAR10.tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    where = f"cifar10-16 could not be fetched into {re.escape(str(folder))} .*; put the file there and try again"
    with pytest.raises(ValueError, match=where):
        datasets.prepare("cifar10-16", tmp_path / "d", Options(partial=True, workers=1))
    (folder / "cifar-10-python.tar.gz").write_bytes(archive)
    assert datasets.prepare("cifar10-16", tmp_path / "d", Options(partial=True, workers=1)).count == 20
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", served)
    assert datasets.prepare("cifar10-16", tmp_path / "e", Options(partial=True, workers=1)).count == 20
    assert (tmp_path / "e" / "originals" / "cifar10-16" / "cifar-10-python.tar.gz").read_bytes() == archive


def test_a_fetched_file_with_another_digest_is_refused(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", served)
    assert main(["data", "prepare", "cifar10", "--download", "--partial", "--data", str(tmp_path / "d")]) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "cifar10 could not be fetched" in message and "--source PATH" in message


@pytest.mark.parametrize(
    ("name", "message"), [("imagenet64", "without its publisher's leave"), ("digits", "needs no originals")]
)
def test_what_cannot_be_fetched_says_so(name, message, tmp_path, capsys):
    assert main(["data", "prepare", name, "--download", "--data", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
