"""Originals in the forms in which people have them: places, archives, links, foreign files, other data."""

import bz2
import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import struct
import sys
import tarfile
import threading
import zipfile
import zlib

import miniatures
import numpy as np
import pytest
from PIL import Image
from test_originals import in_process, prepare, refused

from bench.cli.parser import main
from datasets import Store, originals


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setattr("datasets.celeba64.fill", in_process)
    monkeypatch.setattr("datasets.imagenet64.fill", in_process)


@pytest.fixture
def expected(tmp_path):
    """The digest of a miniature as its publisher ships it, by name of dataset."""
    make = {
        "cifar10": miniatures.cifar10,
        "celeba64": miniatures.celeba,
        "imagenet64": miniatures.imagenet_folder,
    }

    def digest(name):
        folder = tmp_path / f"published-{name}"
        folder.mkdir()
        make[name](folder)
        return prepare(name, folder, tmp_path / "published").digest

    return digest


def accepted(name, source, root):
    """The digest of what the command prepares."""
    return prepare(name, source, root).digest


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def faces(folder):
    """Path below the folder and content of each miniature face."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.jpg"))}


def unpack_cifar10(source):
    with tarfile.open(source / "cifar-10-python.tar.gz") as archive:
        archive.extractall(source, filter="data")
    return source / "cifar-10-batches-py"


def imagenet_tars(folder):
    """A tar per class in `train`."""
    (folder / "train").mkdir()
    for name, content in miniatures.imagenet().items():
        kind, file = name.split("/")
        with tarfile.open(folder / "train" / f"{kind}.tar", "a") as archive:
            miniatures.add(archive, file, content)


# Archive and folder side by side


@pytest.mark.parametrize("name", ["cifar10", "celeba64", "imagenet64"])
@pytest.mark.parametrize("whole", [True, False])
def test_of_folder_and_archive_the_folder_is_taken_if_it_is_whole(source, tmp_path, expected, capsys, name, whole):
    if name == "cifar10":
        miniatures.cifar10(source)
        folder, archive = unpack_cifar10(source), source / "cifar-10-python.tar.gz"
        (folder / "test_batch").unlink()
    elif name == "celeba64":
        miniatures.celeba(source)
        folder, archive = source / "img_align_celeba", source / "img_align_celeba.zip"
        zipped(archive, faces(source))
    else:
        miniatures.imagenet_folder(source)
        folder, archive = source / "train", miniatures.imagenet_tar(source)
    if not whole:
        last = max(p for p in folder.rglob("*") if p.is_file())
        last.write_bytes(last.read_bytes()[:-50])  # unpacking was interrupted
    assert accepted(name, source, tmp_path) == expected(name)
    taken, left = (folder, archive) if whole else (archive, folder)
    said = capsys.readouterr().err
    assert f"{name}: taken from {taken}, " in said and f"left aside: {left}" in said


def test_captions_and_pictures_of_coco_beside_their_archives(source, tmp_path, monkeypatch, capsys):
    """Both splits and their captions are found: the next thing that is asked for is the device."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    miniatures.coco(source)
    for name in ("train2014", "val2014", "annotations"):
        zipped(
            source / f"{name}.zip",
            {p.relative_to(source).as_posix(): p.read_bytes() for p in (source / name).iterdir()},
        )
    (source / "annotations.zip").rename(source / "annotations_trainval2014.zip")
    captions = source / "annotations" / "captions_val2014.json"
    captions.write_bytes(captions.read_bytes()[:-9])
    (source / "images").mkdir()
    for name in ("train2014", "val2014"):
        (source / name).rename(source / "images" / name)
    for given in (source, source / "images", source / "images" / "train2014", source / "val2014.zip"):
        with pytest.raises(ValueError, match="--device: 'cuda' is not there"):
            prepare("coco256", given, tmp_path, device="cuda")
    assert f"coco256: taken from {source / 'images' / 'val2014'}, 2 files" in capsys.readouterr().err


def test_a_broken_archive_of_captions_does_not_hide_the_folder(source, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    miniatures.coco(source)
    packed = source / "annotations_trainval2014.zip"
    packed.write_bytes(b"PK")
    with pytest.raises(ValueError, match="--device: 'cuda' is not there"):
        prepare("coco256", source, tmp_path, device="cuda")
    shutil.rmtree(source / "annotations")
    assert f"{packed}: not a whole archive" in refused("coco256", source, tmp_path)


def test_a_broken_archive_does_not_hide_a_whole_folder(source, tmp_path, capsys):
    miniatures.cifar10(source)
    folder, archive = unpack_cifar10(source), source / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-300])
    assert prepare("cifar10", source, tmp_path / "a").count == 20
    (folder / "data_batch_5").unlink()
    assert f"{archive}: not a whole archive" in refused("cifar10", source, tmp_path / "b")


def test_classes_beside_their_tars(source, tmp_path, expected, capsys):
    miniatures.imagenet_folder(source)
    folders = source / "train"
    folders.rename(source / "kept")
    imagenet_tars(source)
    shutil.copytree(source / "kept" / "n01440764", source / "train" / "n01440764")
    (source / "train" / "n01484850").mkdir()  # interrupted
    assert accepted("imagenet64", source / "train", tmp_path) == expected("imagenet64")
    assert "train: 2 archives beside their folders; of 1 the archive, which has more" in capsys.readouterr().err


# Places


def test_celeba_as_kaggle_ships_it(source, tmp_path, expected):
    miniatures.celeba(source)
    rows = (source / "list_eval_partition.txt").read_text().replace(" ", ",")
    (source / "list_eval_partition.txt").unlink()
    (source / "list_eval_partition.csv").write_text("image_id,partition\n" + rows)
    (source / "img_align_celeba").rename(source / "inner")
    (source / "img_align_celeba").mkdir()
    (source / "inner").rename(source / "img_align_celeba" / "img_align_celeba")
    packed = tmp_path / "archive.zip"
    zipped(packed, faces(source) | {"list_eval_partition.csv": (source / "list_eval_partition.csv").read_bytes()})
    wanted = expected("celeba64")
    for i, given in enumerate((source, source / "img_align_celeba" / "img_align_celeba", packed)):
        assert accepted("celeba64", given, tmp_path / str(i)) == wanted


def test_celeba_as_its_publisher_ships_it(source, tmp_path, expected):
    miniatures.celeba(source, packed=True)
    for name, folder in (("img_align_celeba.zip", "Img"), ("list_eval_partition.txt", "Eval")):
        (source / folder).mkdir()
        (source / name).rename(source / folder / name)
    (source / "Img" / "img_celeba.7z").mkdir()
    wanted = expected("celeba64")
    for i, given in enumerate((source, source / "Img", source / "Img" / "img_align_celeba.zip")):
        assert accepted("celeba64", given, tmp_path / str(i)) == wanted


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC/train"])
def test_imagenet_as_kaggle_ships_it(source, tmp_path, expected, given):
    (source / "ILSVRC" / "Data" / "CLS-LOC" / "val").mkdir(parents=True)
    (source / "ILSVRC" / "Annotations" / "CLS-LOC" / "train" / "n01440764").mkdir(parents=True)
    (source / "ILSVRC" / "Annotations" / "CLS-LOC" / "train" / "n01440764" / "n01440764_1.xml").write_text("<a/>")
    (source / "ILSVRC" / "Data" / "CLS-LOC" / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    miniatures.imagenet_folder(source / "ILSVRC" / "Data" / "CLS-LOC")
    assert accepted("imagenet64", source / given, tmp_path) == expected("imagenet64")


@pytest.mark.parametrize("form", ["a tar per class", "another name", "a zip of all", "a tar of folders", "gzipped"])
def test_forms_of_imagenet(source, tmp_path, expected, form):
    files = miniatures.imagenet()
    given = source
    if form == "a tar per class":
        imagenet_tars(source)
    elif form == "another name":
        miniatures.imagenet_folder(source)
        given = (source / "train").rename(source / "classes")
    elif form == "a zip of all":
        given = source / "download.zip"
        val = {"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_1.JPEG": b"x", "LOC_synset_mapping.txt": b"n01440764 tench"}
        zipped(given, {f"ILSVRC/Data/CLS-LOC/train/{name}": content for name, content in files.items()} | val)
    elif form == "a tar of folders":
        given = source / "mine (1).tar"
        with tarfile.open(given, "w") as archive:
            for name, content in files.items():
                miniatures.add(archive, f"./train/{name}", content)
    else:
        path = miniatures.imagenet_tar(source)
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert accepted("imagenet64", given, tmp_path) == expected("imagenet64")


def test_a_compressed_tar_that_memory_does_not_hold_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "HELD", 1000)
    path = miniatures.imagenet_tar(source)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert f"{path}: is compressed; decompress it" in refused("imagenet64", source, tmp_path)


# CIFAR-10


def cifar10_parquet(path, images, kinds, columns=("img", "label")):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def png(image):
        out = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": None}

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(dict(zip(columns, ([*map(png, images)], kinds), strict=True))), path)


@pytest.mark.parametrize(
    "form",
    ["python 3", "protocol 5", "another name", "a copy", "tar", "bz2", "zip", "binary", "a zip in a folder", "parquet"],
)
def test_forms_of_cifar10(source, tmp_path, form):
    images = miniatures.cifar10(source)
    archive, folder, given = source / "cifar-10-python.tar.gz", unpack_cifar10(source), source
    content = archive.read_bytes()
    archive.unlink()
    if form in ("python 3", "protocol 5"):
        for path in folder.iterdir():
            batch = {key.decode(): value for key, value in pickle.loads(path.read_bytes()).items()}
            batch["label"] = np.int64(3)
            path.write_bytes(pickle.dumps(batch, protocol=5 if form == "protocol 5" else 3))
    elif form == "another name":
        given = folder.rename(source / "cifar10")
    elif form in ("zip", "a zip in a folder"):
        given = source / "x.zip"
        zipped(given, {f"cifar-10-batches-py/{path.name}": path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
        given = source if form == "a zip in a folder" else given
    elif form in ("binary", "parquet"):
        shutil.rmtree(folder)
        binary = source / "cifar-10-batches-bin"
        binary.mkdir()
        for i, part in enumerate(np.split(images.reshape(-1, 3072), 5) if form == "binary" else ()):
            (binary / f"data_batch_{i + 1}.{'BIN' if i else 'bin'}").write_bytes(
                b"".join(bytes([(4 * i + k) % 10]) + row.tobytes() for k, row in enumerate(part))
            )
        if form == "parquet":
            binary.rmdir()
            for k, part in enumerate(np.split(images, 2)):
                kinds = [*range(10)]
                cifar10_parquet(source / "plain_text" / f"train-0000{k}-of-00002.parquet", part, kinds)
            cifar10_parquet(source / "plain_text" / "test-00000-of-00001.parquet", images[:1], [0])
    else:
        shutil.rmtree(folder)
        name = {"a copy": "cifar-10-python (1).tar.gz", "tar": "cifar-10-python.tar", "bz2": "cifar-10-python.tar.bz2"}
        turned = {"a copy": content, "tar": gzip.decompress(content), "bz2": bz2.compress(gzip.decompress(content))}
        (source / name[form]).write_bytes(turned[form])
    store = prepare("cifar10", given, tmp_path)
    assert np.array_equal(store.images, images) and store.labels.tolist() == [*range(10)] * 2


@pytest.mark.parametrize(
    ("columns", "size", "said"),
    [(("img", "fine_label"), 32, "columns img, fine_label"), (("img", "label"), 28, "images of (3, 28, 28)")],
)
def test_a_parquet_file_of_something_else_is_refused(source, tmp_path, columns, size, said):
    cifar10_parquet(source / "train-00000-of-00001.parquet", np.zeros((2, 3, size, size), np.uint8), [0, 0], columns)
    message = refused("cifar10", source, tmp_path)
    assert "train-00000-of-00001.parquet is no batch of CIFAR-10" in message and said in message


def test_a_binary_batch_that_is_cut_off_is_refused(source, tmp_path):
    (source / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 5))
    assert "data_batch_1.bin is no batch of CIFAR-10" in refused("cifar10", source, tmp_path)


# Links, hidden and foreign files


@pytest.mark.parametrize("how", ["all", "half", "files", "root", "in a loop"])
def test_links_are_followed(source, tmp_path, expected, how):
    miniatures.imagenet_folder(source)
    away = (source / "train").rename(tmp_path / "away")
    if how == "root":
        (source / "train").symlink_to(away)
        (source / "ILSVRC2012_img_train").symlink_to(away)  # the same once more
    else:
        (source / "train").mkdir()
    for i, folder in enumerate(sorted(away.iterdir()) if how != "root" else ()):
        here = source / "train" / folder.name
        if how in ("all", "in a loop") or (how == "half" and i % 2):
            here.symlink_to(folder)
        elif how == "half":
            shutil.copytree(folder, here)
        else:
            here.mkdir()
            for file in folder.iterdir():
                (here / file.name).symlink_to(file)
    if how == "in a loop":
        (source / "train" / "again").symlink_to(source)
        (away / "n01440764" / "up").symlink_to(source / "train")
    assert accepted("imagenet64", source, tmp_path / "data") == expected("imagenet64")


@pytest.mark.parametrize("name", ["n01440764", "n01440764/n01440764_9.JPEG", "self"])
def test_a_link_to_nothing_is_named(source, tmp_path, name):
    miniatures.imagenet_folder(source)
    path = source / "train" / name
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(path if name == "self" else tmp_path / "unmounted")
    assert str(path) in refused("imagenet64", source, tmp_path)


def test_a_link_in_a_tar_is_named(source, tmp_path):
    with tarfile.open(source / "train.tar", "w") as archive:
        for name, content in miniatures.imagenet().items():
            miniatures.add(archive, name, content)
        link = tarfile.TarInfo("n01440764/n01440764_9.JPEG")
        link.type, link.linkname = tarfile.LNKTYPE, "n01440764/n01440764_1.JPEG"
        archive.addfile(link)
    assert "n01440764_9.JPEG is a link; pack it again with tar --deref" in refused("imagenet64", source, tmp_path)


def test_a_folder_that_may_not_be_read_is_named(source, tmp_path, monkeypatch):
    miniatures.imagenet_folder(source)
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("n01443537"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("datasets.originals.os.scandir", denied)
    assert "n01443537" in refused("imagenet64", source / "train", tmp_path)


HIDDEN = (".ipynb_checkpoints/a.JPEG", ".Trash-1000/files/a.JPEG", "@eaDir/a.JPEG", "#recycle/a.JPEG", "._a.JPEG")


@pytest.mark.parametrize("packed", [False, True])
def test_hidden_and_foreign_files_are_no_images(source, tmp_path, expected, packed):
    files = miniatures.imagenet()
    for name in HIDDEN:
        files |= {name: b"x", f"n01440764/{name}": b"x"}
    files |= {"__MACOSX/n01440764/._n01440764_1.JPEG": b"x", "$RECYCLE.BIN/a.JPEG": b"x", "lost+found/a.JPEG": b"x"}
    if packed:
        zipped(source / "train.zip", {f"train\\{name}".replace("/", "\\"): content for name, content in files.items()})
    else:
        for name, content in files.items():
            (source / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            (source / "train" / name).write_bytes(content)
    assert accepted("imagenet64", source, tmp_path) == expected("imagenet64")


# Classes


def test_folders_that_are_no_wordnet_ids_need_a_mapping(source, tmp_path, expected):
    """0, 1, 10, 2 in the order of the text would be other labels."""
    miniatures.imagenet_folder(source)
    names = {"n01440764": "10", "n01443537": "2", "n01484850": "great white shark"}
    for number, name in names.items():
        (source / "train" / number).rename(source / "train" / name)
    message = refused("imagenet64", source, tmp_path / "a")
    assert "lies in no class, a folder called by WordNet id (3 such)" in message and "LOC_synset_mapping.txt" in message
    lines = ["n01440764 10", "n01443537\t2", "n01484850 great white shark, white shark", "n02012849 crane"]
    (source / "LOC_synset_mapping.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert accepted("imagenet64", source, tmp_path / "b") == expected("imagenet64")
    (source / "train" / "2").rename(source / "train" / "crane")
    (source / "LOC_synset_mapping.txt").write_text("\n".join([*lines, "n03126707 crane"]))
    assert "crane/n01443537_9.JPEG lies in no class" in refused("imagenet64", source, tmp_path / "c")


def test_two_folders_of_one_class_are_refused(source, tmp_path):
    miniatures.imagenet_folder(source)
    shutil.copytree(source / "train" / "n01440764", source / "train" / "tench")
    (source / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca")
    assert "are both n01440764/n01440764_1.JPEG" in refused("imagenet64", source, tmp_path)


def test_val_is_not_taken_for_train(source, tmp_path):
    miniatures.imagenet_folder(source)
    shutil.copytree(source / "train", source / "validation")
    (source / "train").rename(source / "training")
    assert "classes lie in 'training' and in 'validation'" in refused("imagenet64", source, tmp_path)


def test_a_place_with_much_else_is_refused_soon(source, tmp_path):
    (source / "/".join("abcdefgh")).mkdir(parents=True)
    assert "lies too deep; name the folder or archive of the originals" in refused("celeba64", source, tmp_path)


# Images and lists


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_sixteen_bits_become_eight(source, tmp_path, mode):
    (source / "train" / "n01440764").mkdir(parents=True)
    grey = np.asarray(miniatures.noise(1, 64, 64).convert("L"))
    path = source / "train" / "n01440764" / "a.png"
    if mode == "grey":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    else:
        rows = np.stack([grey] * 3, axis=-1).astype(">u2") * 257
        packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
        parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(prepare("imagenet64", source, tmp_path).images[0], np.stack([grey] * 3))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_loses_no_face(source, tmp_path, expected, encoding):
    miniatures.celeba(source)
    path = source / "list_eval_partition.txt"
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    assert accepted("celeba64", source, tmp_path) == expected("celeba64")


def test_a_name_that_is_no_utf8_is_an_image_like_others(source, tmp_path):
    miniatures.imagenet_folder(source)
    file = source / "train" / "n01440764" / "n01440764_1.JPEG"
    os.rename(file, os.path.join(os.fsencode(file.parent), b"caf\xe9.JPEG"))
    assert prepare("imagenet64", source, tmp_path).count == 5


@pytest.mark.parametrize("some", [True, False])
def test_other_kinds_of_images_are_named(source, tmp_path, some):
    (source / "train" / "n01440764").mkdir(parents=True)
    for i in range(3):
        (source / "train" / "n01440764" / f"{i}.webp").write_bytes(b"x")
    if some:
        (source / "train" / "n01440764" / "a.JPEG").write_bytes(b"x")
    said = "n01440764/0.webp is no JPEG or PNG (3 such files)" if some else "(.jpg, .jpeg, .png) in it, but 3 .webp"
    assert said in refused("imagenet64", source, tmp_path)


def test_faces_of_another_kind_than_the_lists_are_named(source, tmp_path):
    miniatures.celeba(source)
    for path in (source / "img_align_celeba").iterdir():
        path.rename(path.with_suffix(".png"))
    message = refused("celeba64", source, tmp_path)
    assert "has 000001.png, none of the train split of list_eval_partition.txt, 000001.jpg" in message


# Other data


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("imagenet64", "train_data_batch_1.npz", "train_data_batch_1.npz is of the downsampled ImageNet"),
        ("imagenet64", "train/train_data_batch_1", "train_data_batch_1 is of the downsampled ImageNet"),
        ("imagenet64", "train-00000-of-00294.parquet", "but 1 .parquet"),
        ("cifar10", "cifar-100-binary/train.bin", "is of CIFAR-100"),
        ("cifar10", "train/airplane/0001.png", "but 1 .png"),
        ("cifar10", "data_batch_1.mat", "but 1 .mat"),
        ("celeba64", "celebamask-hq/0.txt", "is of CelebA-HQ"),
        ("coco256", "train2017/000000000009.jpg", "is of COCO 2017"),
        ("coco256", "x.txt", "no images COCO_train2014_*.jpg in it, but 1 .txt"),
    ],
)
def test_other_data_is_called_that(source, tmp_path, name, file, said):
    path = source / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)
    assert said in refused(name, source, tmp_path)
    if path.suffix == ".npz":
        assert said in refused(name, path, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><title>Quota exceeded", "is a web page; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of git LFS"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z, rar or zstd archive; unpack it first"),
        (b"", "not a whole archive"),
    ],
)
def test_what_is_saved_under_an_archives_name_is_called_that(source, tmp_path, content, said):
    (source / "img_align_celeba.zip").write_bytes(content)
    assert f"{source / 'img_align_celeba.zip'}: {said}" in refused("celeba64", source, tmp_path)


# Downloading


def test_celeba_is_fetched_without_another_package(source, tmp_path, monkeypatch, expected, capsys):
    miniatures.celeba(source, packed=True)
    names = ("img_align_celeba.zip", "list_eval_partition.txt")
    listed = [(name, hashlib.md5((source / name).read_bytes()).hexdigest(), name) for name in names]
    monkeypatch.setitem(sys.modules, "gdown", None)
    monkeypatch.setattr("torchvision.datasets.CelebA.file_list", listed)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source))
    where = ["data", "prepare", "celeba64", "--download", "--partial"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("datasets.celeba64.DRIVE", f"http://127.0.0.1:{server.server_port}/")
        assert main([*where, "--data", str(tmp_path / "a")]) == 0
        (source / names[0]).write_text("<html>Quota exceeded")
        assert main([*where, "--data", str(tmp_path / "b")]) == 2
        server.shutdown()
    assert Store.open(tmp_path / "a", "celeba64").digest == expected("celeba64")
    message = capsys.readouterr().err.splitlines()[-1]
    assert "another file than img_align_celeba.zip; fetch it by hand from https://mmlab" in message
