"""coco256: 82,783 photographs with about five captions each, as latents 4x32x32. Text-conditional. Lin et al. 2014.

Centre square, LANCZOS to 256, moments of Stable Diffusion's KL autoencoder (scale 0.23010), last hidden states of CLIP
ViT-L/14's text model: the U-ViT recipe. The val images are kept too: samples are measured against them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets import codecs, originals
from datasets.codecs import BATCH, GRID, SIZE
from datasets.originals import ARCHIVE, Item, Originals
from datasets.parallel import Task, fill
from datasets.store import Dataset, Options, Writer

SCALE = 0.23010  # factor on a latent
TEXT = (77, 768)  # tokens and width of CLIP ViT-L/14
VAL = 40_504  # val images
TEXT_ENCODER = "openai/clip-vit-large-patch14"
WORDS = (
    "a folder with train2014 and val2014 (.zip or folder) and annotations_trainval2014.zip or annotations "
    "(captions_train2014.json, captions_val2014.json)"
)
OTHERS = {r"(train|val)2017": "COCO 2017"}
ORIGINALS = {
    name: Originals(
        "coco256", WORDS, name + ARCHIVE, count, rf"(.*/)?COCO_{name}_\d+\.jpg", f"images COCO_{name}_*.jpg", OTHERS
    )
    for name, count in (("train2014", 82_783), ("val2014", VAL))
}
ADDRESS = "http://images.cocodataset.org"
FILES = ("zips/train2014.zip", "zips/val2014.zip", "annotations/annotations_trainval2014.zip")
SPLITS, PACKED = rf"(train|val)2014{ARCHIVE}", rf"annotations\w*2014{ARCHIVE}"


@dataclass(frozen=True)
class Split:
    """Images in the order of their ids, and the captions of each, in the order of the captions' ids."""

    images: list[Item]
    captions: list[list[str]]


def prepare(writer: Writer, options: Options) -> None:
    """Write moments and caption states of train, caption states and images of val, the empty prompt, the decoder."""
    train, val = (_split(options.source, name) for name in ("train2014", "val2014"))
    path = Path(options.source or "")
    writer.facts |= originals.check_count("coco256", path, len(train.images), DATASET.count or 0, options.partial)
    if originals.check_count("coco256", path, len(val.images), VAL, options.partial, "val images"):
        writer.facts |= {"partial": True, "published": DATASET.count, "val_images": len(val.images)}
    module, encode_image = codecs.encoder(options.autoencoder, options.device)
    encode_text, text_digest = _text_encoder(options.text_encoder or TEXT_ENCODER, options.device)
    codecs.attempt("--text-encoder", lambda: encode_text([""]), TEXT)
    networks = (codecs.digest(module), text_digest)
    writer.resume(originals.identity(train.images + val.images, DATASET.recipe, train.captions, val.captions, networks))
    module.save_pretrained(writer.path / "autoencoder", safe_serialization=True)
    fill(writer.path / "reference.npy", val.images, (3, SIZE, SIZE), np.uint8, convert, options.workers, "val images")

    def fill_here(name: str, items: Sequence[Any], shape: tuple[int, ...], task: Task, about: str) -> None:
        """Encode in this process, where the networks are."""
        fill(writer.path / f"{name}.npy", items, shape, np.float16, task, 0, about)

    fill_here("moments", train.images, (8, *GRID), lambda items: encode_image(convert(items)), "train images")
    for name, split in (("texts", train), ("val_texts", val)):
        fill_here(name, [text for texts in split.captions for text in texts], TEXT, encode_text, name)
    writer.write("first", np.cumsum([0, *map(len, train.captions)], dtype=np.int64))
    writer.write("empty", encode_text([""])[0])
    writer.facts |= codecs.facts(SCALE, len(val.images))
    writer.count = len(train.images)


def _split(source: Path | None, name: str) -> Split:
    """The images of a split and their captions; ValueError, one line, if they do not belong together."""
    if source and re.fullmatch(SPLITS, source.name):
        source = source.parent  # one of the two was given
    path, found = ORIGINALS[name].find(source)
    items = originals.by_name(found)
    if (file := originals.companion(path, rf"captions_{name}\.json", PACKED)) is None:
        raise ValueError(f"{path}: captions_{name}.json is missing beside; {ORIGINALS[name].made}")
    where, content = _captions(file)
    try:
        files = {_kind(int, image["id"]): _kind(str, image["file_name"]) for image in content["images"]}
        captions: dict[int, list[str]] = {image: [] for image in files}
        for caption in sorted(content["annotations"], key=lambda entry: _kind(int, entry["id"])):
            captions[_kind(int, caption["image_id"])].append(caption["caption"].strip())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: not a COCO captions file, or of other images ({error!r})") from None
    image_of: dict[str, int] = {}
    for image, file in files.items():
        if image_of.setdefault(file, image) != image:
            raise ValueError(f"{where}: the images {image_of[file]} and {image} have one file, {file}")
    strange = sorted(set(items) - set(files.values()))
    if strange:
        many = f"{len(strange):,} such images in {path}"
        raise ValueError(f"{where}: says nothing of {strange[0]} ({many}); these captions are of other images")
    chosen = sorted(image for image, file in files.items() if file in items and captions[image])
    return Split([items[files[image]] for image in chosen], [captions[image] for image in chosen])


def _kind(kind: type, value: Any) -> Any:
    """The value; TypeError if it is not of that kind."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:80]!r} is no {kind.__name__}")
    return value


def _captions(file: Item) -> tuple[str, Any]:
    """Where a captions file lies, and what it says."""
    where = f"{file.path}: {Path(file.name).name}"
    try:
        return where, json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error})") from None


def convert(items: Sequence[Item]) -> np.ndarray:
    """uint8 (n, 3, 256, 256)."""
    return np.stack([originals.to_array(crop(item.image())) for item in items])


def crop(image: Image.Image) -> Image.Image:
    """The centre square, LANCZOS to 256x256."""
    side = min(image.size)
    left, upper = ((length - side) // 2 for length in image.size)
    return image.crop((left, upper, left + side, upper + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _text_encoder(name: str, device: str) -> tuple[Callable[[Sequence[str]], np.ndarray], str]:
    """(captions to the text model's last hidden states, fp16 (n, 77, 768); a digest of model and tokenizer)."""
    import torch

    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise ValueError(codecs.MISSING.format("--text-encoder", "transformers")) from None
    try:
        tokenizer = CLIPTokenizer.from_pretrained(name)
        model, found = CLIPTextModel.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except codecs.loading_errors() as error:
        raise ValueError(f"--text-encoder: {name!r} cannot be loaded ({codecs.line(error)})") from None
    codecs.check_whole("--text-encoder", name, found)
    digest = codecs.digest(model, tokenizer.backend_tokenizer.to_str())
    model, padded = model.to(device).eval(), {"truncation": True, "max_length": TEXT[0], "padding": "max_length"}

    @torch.inference_mode()
    def encode(captions: Sequence[str]) -> np.ndarray:
        tokens = tokenizer(list(captions), **padded, return_tensors="pt")["input_ids"]
        parts = [model(input_ids=part.to(device)).last_hidden_state for part in tokens.split(BATCH)]
        return torch.cat([part.half().cpu() for part in parts]).numpy()

    return encode, digest


def download(folder: Path) -> None:
    """Fetch the archives from the publisher's site (20 GB)."""
    from torchvision.datasets.utils import download_url

    for file in FILES:
        download_url(f"{ADDRESS}/{file}", str(folder))


ABOUT = "COCO 2014, 82,783 images with captions, as latents"
RECIPE = (
    f"centre square, LANCZOS to {SIZE}; moments of the KL autoencoder, scale {SCALE}; last hidden states of the CLIP "
    "text model, padded to 77 tokens"
)
DATASET = Dataset(
    "coco256",
    (4, *GRID),
    ABOUT,
    RECIPE,
    prepare,
    WORDS,
    82_783,
    context=TEXT,
    download=download,
    networks=("autoencoder", "text_encoder"),
    latents=True,
)
