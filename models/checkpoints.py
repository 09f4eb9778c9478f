"""What trainers leave in a file or a folder: read without running it, and the weights found, averaged ones first."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from models.backbone import Backbone
from models.layouts import sources

State = dict[str, Tensor]
# Last biases of U-ViT, DiT, improved-diffusion, DDIM and ours.
OUTPUTS = ("final_layer.bias", "final_layer.linear.bias", "out.2.bias", "conv_out.bias")
# In the name of a moving average, of a file too; DDIM's trainer saves a list of which it is the fifth.
AVERAGE = re.compile(r"(?<![A-Za-z])(ema|shadow|swa|polyak|averaged?)(?![a-z])|EMA|Ema(?![a-z])|^4\.")
# In the name of what is averaged, where an average is saved with it.
RAW = re.compile(r"online|collected_params|current_model_state|(no|non|without)[-_]?ema")
INSIDE = re.compile(  # what a pickled module, torch.compile and FSDP write between the names of modules
    r"\._(modules|parameters|buffers|orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)(?=\.|$)"
)
FILES = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".safetensors")  # read where a folder is given
OTHER = {  # how a file begins that is no checkpoint
    rb"$": "is empty; download it again",
    rb"\s*<": "is a web page or a server's message, saved under this name; download it again",
    rb"version https://git-lfs": "is a pointer of Git LFS, not the file itself; get it with: git lfs pull",
    rb"\s*[{\[]": "is a text (JSON), not weights",
}
ALONE = "save the state dict that you want in a file of its own"


class Pickled:
    """An object that was not loaded: keeps the state it would have had, and runs nothing."""

    state: object = None

    def __new__(cls, *parts: object) -> Pickled:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"


def read(path: Path) -> object:
    """The content of a file of safetensors or of torch.save, or of a folder of them by their names.

    Any object in a pickle but tensors and plain containers is `Pickled`. ValueError, one line, if it is neither.
    """
    if path.is_dir() and (files := sorted(file for file in path.iterdir() if file.suffix in FILES)):
        return {file.name: read(file) for file in files}
    if not path.is_file():
        what = f"no file with one of the suffixes {', '.join(FILES)} in it" if path.is_dir() else "no such file"
        raise ValueError(f"weights: {path}: {what}")
    with path.open("rb") as file:
        head = file.read(512)
    tensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size  # length, header of JSON
    for begin, what in () if tensors else OTHER.items():
        if re.match(begin, head):
            raise ValueError(f"weights: {path}: {what}")
    whole = zipfile.is_zipfile(path)
    try:
        if tensors:
            return load_file(path)
        names = [name.rpartition(".") for name in get_unsafe_globals_in_checkpoint(path)] if whole else []
        with safe_globals([(type(last, (Pickled,), {"__module__": m}), f"{m}.{last}") for m, _, last in names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a safe unpickler raises many kinds; each means that this is no file of tensors
        why = re.search(r"(Unsupported global|Trying to load|Can only)\b.*?(?=\. |$)", str(error), re.M)
        cut = isinstance(error, EOFError | SafetensorError) or "EOF" in str(error) or (head[:2] == b"PK" and not whole)
        said = (
            "cut short or broken; download it again" if cut else f"{why[0]}; {ALONE}" if why else type(error).__name__
        )
        raise ValueError(f"weights: {path}: not a file of tensors ({said})") from None


def select(content: object, model: Backbone, path: Path) -> tuple[State, str]:
    """The weights of such a network in the content of `path`, the moving average if there is one; and which they are.

    ValueError, one line, where that is not certain. If nothing fits, what comes nearest.
    """
    flat = _flat(content)
    state = {key: x for key, x in flat.items() if isinstance(x, Tensor)}
    if not state:
        kinds = ", ".join(f"{key or 'an object'} ({x})" for key, x in list(flat.items())[:3])
        raise ValueError(f"weights: {path}: holds {kinds or type(content).__name__}, not a dict of tensors by name")
    fit, nearest = _networks(state, model)
    plain = [start for start in fit if not RAW.search(start)]
    averages = [start for start in fit if _is_average(start)] or plain * (0 < len(plain) < len(fit))
    known = {start + name for start in fit for name in model.state_dict()}
    other = [
        k for k, x in flat.items() if _is_average(k) and k not in known and (isinstance(x, Pickled) or x.numel() > 1)
    ]
    if other and not averages and (fit or not nearest):
        raise ValueError(f"weights: {path}: its moving average ({other[0]}) has not all names of the weights; {ALONE}")
    found = averages or plain or list(fit)
    if any(not _equal(fit[found[0]], fit[start]) for start in found[1:]):
        raise ValueError(f"weights: {path}: several networks in it fit ({', '.join(found)}); {ALONE}")
    what = "its moving average" if averages or _is_average(path.name) else "it names no moving average"
    start = found[0] if found else ""
    return fit.get(start, nearest or state), f"{start.rstrip('.') or 'the whole file'} ({what})"


def _networks(state: State, model: Backbone) -> tuple[dict[str, State], State]:
    """The weights that have all keys which the model needs, by their path; and those that have most of its names."""
    names, starts = {*OUTPUTS, *model.state_dict()}, Counter[str]()
    for key in state:
        suffixes = re.finditer(r"(?:^|\.)(?=(.+))", key)
        starts.update(key[: suffix.start(1)] for suffix in suffixes if suffix[1] in names)
    parts = {start: {k.removeprefix(start): x for k, x in state.items() if k.startswith(start)} for start in starts}
    fit = {start: part for start, part in parts.items() if _fits(model, part)}
    lists: dict[str, list[Tensor]] = {}  # averages in the order of the weights, without their names
    for at in filter(None, (re.fullmatch(r"(.*\.)\d+", key) for key in filter(_is_average, state))):
        lists.setdefault(at[1], []).append(state[at[0]])
    for (start, tensors), part in itertools.product(lists.items(), list(fit.values())):
        if [x.shape for x in tensors] == [x.shape for x in part.values()]:
            fit[start] = dict(zip(part, tensors, strict=True))
    return fit, parts[max(starts, key=lambda start: (starts[start], _is_average(start)))] if starts else {}


def _flat(content: object, path: str = "", within: tuple[int, ...] = ()) -> dict[str, Tensor | Pickled]:
    """Tensors and objects that were not loaded, by their dotted paths; of a module as in its state dict."""
    found = {path: content} if isinstance(content, Tensor | Pickled) else {}
    inside = content.state if isinstance(content, Pickled) else content
    if isinstance(inside, list | tuple):
        inside = dict(enumerate(inside))
    if isinstance(inside, dict) and id(inside) not in within:  # a pickled module may hold itself
        for key, value in inside.items():
            found |= _flat(value, INSIDE.sub("", f"{path}.{key}").removeprefix("."), (*within, id(inside)))
    return found


def _is_average(path: str) -> bool:
    return bool(AVERAGE.search(path)) and not RAW.search(path)


def _fits(model: Backbone, state: State) -> bool:
    """Whether a state has every key that the model needs."""
    return all(key in state for source in sources(model, state).values() for key in source.keys)


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
