"""Writes small originals in each publisher's own format."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, width: int, height: int) -> Image.Image:
    """A smooth random picture, so that JPEG and resizing have something to do."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> bytes:
    """Encoded."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """One file into a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def cifar10(folder: Path, per_batch: int = 4) -> np.ndarray:
    """cifar-10-python.tar.gz with five training batches and the test batch; returns the training images.

    Image k is of kind k modulo 10.
    """
    bits = np.random.default_rng(0)
    images = bits.integers(0, 256, (5 * per_batch, 3072), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for i in range(5):
            part = slice(i * per_batch, (i + 1) * per_batch)
            content = {b"batch_label": b"training", b"labels": labels[part].tolist(), b"data": images[part]}
            add(archive, f"cifar-10-batches-py/data_batch_{i + 1}", pickle.dumps(content, protocol=2))
        add(archive, "cifar-10-batches-py/test_batch", pickle.dumps({b"data": images[:1]}, protocol=2))
    return images.reshape(-1, 3, 32, 32)


def celeba(folder: Path, count: int = 6, packed: bool = False) -> list[str]:
    """img_align_celeba and the partition list; returns the names of the train split (all but the last two)."""
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    files = {name: jpeg(noise(i, 178, 218)) for i, name in enumerate(names)}
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in files.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    splits = ["0"] * (count - 2) + ["1", "2"]
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, splits, strict=True)))
    return names[:-2]


def imagenet() -> dict[str, bytes]:
    """`class/name` and JPEGs of every awkward kind: CMYK, grey, tall, wide, smaller than 64."""
    return {
        "n01440764/n01440764_1.JPEG": jpeg(noise(1, 500, 375)),
        "n01440764/n01440764_2.JPEG": jpeg(noise(2, 333, 501).convert("CMYK")),
        "n01443537/n01443537_9.JPEG": jpeg(noise(3, 129, 128).convert("L")),
        "n01484850/n01484850_5.JPEG": jpeg(noise(4, 50, 75)),
        "n01484850/n01484850_7.JPEG": jpeg(noise(5, 1300, 260)),
    }


def imagenet_folder(folder: Path) -> None:
    """The ImageFolder `train`."""
    for name, content in imagenet().items():
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / name).write_bytes(content)


def imagenet_tar(folder: Path) -> Path:
    """The tar of one tar per class, classes not in order."""
    files = imagenet()
    path = folder / "ILSVRC2012_img_train.tar"
    with tarfile.open(path, "w") as outer:
        for kind in sorted({name.split("/")[0] for name in files}, reverse=True):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for name, content in files.items():
                    if name.startswith(kind):
                        add(archive, name.split("/")[1], content)
            add(outer, f"{kind}.tar", inner.getvalue())
    return path


def coco(folder: Path, packed: bool = False) -> dict[str, dict[str, list[str]]]:
    """train2014, val2014 and captions, six for one image; returns captions by split and file name, in id order."""
    wanted = {"train2014": {9: 6, 25: 5, 30: 1}, "val2014": {42: 5, 73: 2}}
    said: dict[str, dict[str, list[str]]] = {}
    (folder / "annotations").mkdir()
    for split, images in wanted.items():
        names = {image: f"COCO_{split}_{image:012d}.jpg" for image in images}
        files = {names[image]: jpeg(noise(image, 320 + image, 240)) for image in images}
        captions = [
            {"image_id": image, "id": 1000 - 10 * image - k, "caption": f"Picture {image}, caption {k}. "}
            for image, count in images.items()
            for k in range(count)
        ]
        content = {
            "images": [{"id": image, "file_name": name} for image, name in names.items()],
            "annotations": captions,
        }
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
        said[split] = {
            names[image]: [
                c["caption"].strip() for c in sorted(captions, key=lambda c: c["id"]) if c["image_id"] == image
            ]
            for image in images
        }
        if packed:
            with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
                for name, image in files.items():
                    archive.writestr(f"{split}/{name}", image)
        else:
            (folder / split).mkdir()
            for name, image in files.items():
                (folder / split / name).write_bytes(image)
    return said


def latent_networks(folder: Path) -> tuple[Path, Path]:
    """Random networks of the classes that coco256 uses, saved as the real ones are: autoencoder, text encoder."""
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    kinds = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    autoencoder = AutoencoderKL(
        down_block_types=kinds[0],
        up_block_types=kinds[1],
        block_out_channels=[4] * 4,
        latent_channels=4,
        norm_num_groups=2,
        layers_per_block=1,
    )
    autoencoder.save_pretrained(folder / "vae", safe_serialization=True)
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    words = folder / "words"
    words.mkdir()
    (words / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(words / "vocab.json"), str(words / "merges.txt"))
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=768,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=8,
        bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1,
    )
    CLIPTextModel(config).save_pretrained(folder / "clip", safe_serialization=True)
    tokenizer.save_pretrained(folder / "clip")
    return folder / "vae", folder / "clip"
