"""What trainers save: the moving average is found in it or the file refused; nothing in a pickle is run."""

import argparse
import collections
import copy
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import models
from models import weights

NET = models.build("uvit-xs", seeds=(1, 2))
RAW, EMA = ({key: torch.full_like(x, value) for key, x in NET.state_dict().items()} for value in (1.0, 2.0))
OPTIMIZER = {"state": {0: {"step": torch.zeros(1), "exp_avg": torch.zeros(32)}}, "param_groups": [{"lr": 0.1}]}
AVERAGED, ONLY = "(its moving average)", "(it names no moving average)"


def under(prefix, state):
    return {prefix + key: x for key, x in state.items()}


def taken(content, tmp_path, name="theirs.pth"):
    """The value of every weight that is taken from a file with this content; and what is said of the part."""
    path, out = tmp_path / name, tmp_path / "ours.safetensors"
    torch.save(content, path)
    line = weights.import_weights(path, "uvit-xs", "none", out)
    (value,) = {float(x) for tensor in load_file(out).values() for x in tensor.unique()}
    return value, line.partition(" from ")[2].rpartition(", written")[0]


def refused(path):
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as caught:
        weights.import_weights(path, "uvit-xs", "none", path.parent / "ours.safetensors")
    said = str(caught.value)
    assert "\n" not in said and str(path) in said and not (path.parent / "ours.safetensors").exists(), said
    return said


class Average:
    """As trainers pickle one whole: a class that is not there when the file is read."""

    def __init__(self, shadow):
        self.decay, self.shadow = 0.999, shadow


LAYOUTS = {  # what holds an average: by whom it is saved so, its content, and the part that is taken
    "DiT": ({"model": RAW, "ema": EMA, "opt": OPTIMIZER, "args": argparse.Namespace(lr=1e-4)}, "ema"),
    "U-ViT in one": ({"nnet": RAW, "nnet_ema": EMA, "step": 5}, "nnet_ema"),
    "timm": ({"state_dict": RAW, "state_dict_ema": EMA, "metric": np.float64(3.1), "epoch": 3}, "state_dict_ema"),
    "ema_model": ({"model": RAW, "ema_model": EMA}, "ema_model"),
    "modelEMA": ({"model": RAW, "modelEMA": EMA}, "modelEMA"),
    "DDIM": ([under("module.", RAW), OPTIMIZER, 3, 100, EMA], "4"),
    "lucidrains": (
        {
            "step": 5,
            "model": {"betas": torch.zeros(9), **under("model.", RAW)},
            "ema": {
                "initted": torch.tensor(True),
                "step": torch.tensor(5),
                "online_model.betas": torch.zeros(9),
                "ema_model.betas": torch.zeros(9),
                **under("online_model.model.", RAW),
                **under("ema_model.model.", EMA),
            },
        },
        "ema.ema_model.model",
    ),
    "ema-pytorch alone": (under("online_model.", RAW) | under("ema_model.", EMA), "ema_model"),
    "diffusers, torch-ema": (
        {"unet": RAW, "ema": {"decay": 0.9, "shadow_params": list(EMA.values()), "collected_params": None}},
        "ema.shadow_params",
    ),
    "a class with a dict": (
        {"model": RAW, "ema": {"decay": 0.9, "shadow": under("module.", EMA)}},
        "ema.shadow.module",
    ),
    "a pickled class": ({"model": RAW, "ema": Average(EMA)}, "ema.shadow"),
    "a pickled module": ({"model": RAW, "ema": NET}, "ema"),
    "Lightning": ({"state_dict": under("model._orig_mod.", RAW) | under("ema.module.", EMA)}, "state_dict.ema.module"),
    "Lightning's callback": (
        {"state_dict": EMA, "current_model_state": RAW, "averaging_state": {"n_averaged": torch.tensor(3)}},
        "state_dict",
    ),
    "several that are equal": ({"model": RAW, "ema": EMA, "ema_again": dict(EMA)}, "ema"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_moving_average_is_taken(tmp_path, layout):
    content, part = LAYOUTS[layout]
    if layout == "a pickled module":
        content = content | {"ema": copy.deepcopy(NET)}
        content["ema"].load_state_dict(EMA)
    assert taken(content, tmp_path) == (2.0, f"{part} {AVERAGED}")


HIDDEN = {  # averages that cannot be read or told apart, and what the refusal names
    "a list that fits no names": (
        {"model": RAW, "ema": {"shadow_params": list(EMA.values())[1:]}},
        "ema.shadow_params.0",
    ),
    "a list alone": ({"decay": 0.9, "shadow_params": list(EMA.values())}, "shadow_params.0"),
    "LDM, without dots": (
        {"state_dict": under("model.", RAW) | {f"model_ema.{key.replace('.', '')}": x for key, x in EMA.items()}},
        "state_dict.model_ema.pos_embed",
    ),
    "a part": ({"model": RAW, "ema": {"pos_embed": EMA["pos_embed"]}}, "ema.pos_embed"),
    "arrays": ({"model": RAW, "ema": {key: x.numpy() for key, x in EMA.items()}}, "ema.pos_embed"),
    "an unreadable object": ({"model": RAW, "ema": Average(pathlib.PurePosixPath("x"))}, "ema"),
    "two": (
        {"model": RAW, "ema_0.999": EMA, "ema_0.9999": RAW},
        "several networks in it fit (ema_0.999., ema_0.9999.)",
    ),
    "networks of no known role": ({"student": RAW, "target": EMA}, "several networks in it fit (student., target.)"),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_raw_weights_are_not_taken_where_an_average_cannot_be(tmp_path, kind):
    content, named = HIDDEN[kind]
    torch.save(content, tmp_path / "theirs.pth")
    said = refused(tmp_path / "theirs.pth")
    assert named in said and "save the state dict that you want in a file of its own" in said


@pytest.mark.parametrize("start", ["", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.net."])
@pytest.mark.parametrize("inside", ["", "state_dict", "model"])
def test_weights_are_found_under_any_prefix(tmp_path, start, inside):
    state = under(start, EMA)
    part = f"{inside}.{start}".replace("_orig_mod.", "").strip(".") or "the whole file"
    extra = {"epoch": 3, "optimizer": OPTIMIZER, "loggers": [torch.zeros(3)]}
    assert taken({inside: state, **extra} if inside else state, tmp_path) == (2.0, f"{part} {ONLY}")


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_modules_that_were_wrapped_one_by_one_have_their_names(tmp_path, wrapper):
    state = {key.replace("in_blocks.0.", f"in_blocks.0.{wrapper}."): x for key, x in EMA.items()}
    assert state.keys() != EMA.keys() and taken(state, tmp_path) == (2.0, f"the whole file {ONLY}")


def test_the_name_of_a_file_tells_of_an_average(tmp_path):
    assert taken(EMA, tmp_path, "ema_0.9999_500000.pt") == (2.0, f"the whole file {AVERAGED}")
    for name in ("cinema.pt", "model_no_ema.pt"):
        assert taken(EMA, tmp_path, name) == (2.0, f"the whole file {ONLY}")


def test_a_folder_is_searched_as_a_file_is(tmp_path):
    """U-ViT saves one."""
    folder, out = tmp_path / "500000.ckpt", tmp_path / "ours.safetensors"
    folder.mkdir()
    assert "no file with one of the suffixes .pth, " in refused(folder)
    for name, content in {"nnet": RAW, "nnet_ema": EMA, "optimizer": OPTIMIZER, "step": 5}.items():
        torch.save(content, folder / f"{name}.pth")
    assert f"from nnet_ema.pth {AVERAGED}" in weights.import_weights(folder, "uvit-xs", "none", out)
    assert load_file(out)["pos_embed"].unique().tolist() == [2.0]


class Config(dict):
    """A dict with more to it, which torch refuses to fill."""


HARMLESS = {
    "namespace": argparse.Namespace(lr=1e-4, out=pathlib.PurePosixPath("x"), more=argparse.Namespace(a=1)),
    "numpy": [np.float64(3.1), np.arange(3), np.random.default_rng(0).bit_generator.state],
    "a class": Average(None),
    "a type": [argparse.Namespace, np.float32, torch.float16],
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_things_beside_the_weights_do_not_keep_them_back(tmp_path, kind):
    assert taken({"args": HARMLESS[kind], "model": EMA}, tmp_path) == (2.0, f"model {ONLY}")


def test_what_is_in_the_way_is_named(tmp_path):
    path = tmp_path / "theirs.pth"
    for content in (Config(a=1), collections.defaultdict(list, a=1)):
        torch.save({"cfg": content, "model": EMA}, path)
        assert f"{type(content).__module__}.{type(content).__name__}" in refused(path)
    torch.save({"args": argparse.Namespace(), "model": EMA}, path, _use_new_zipfile_serialization=False)
    assert "GLOBAL argparse.Namespace" in refused(path)
    torch.save({"w": np.zeros(3)}, path)
    assert "holds w (numpy._core.multiarray._reconstruct), " in refused(path)


class Payload:
    """What a hostile file would hold: unpickled, it would raise."""

    def __init__(self, does):
        self.does = does

    def __reduce__(self):
        return (self.does, ("the pickle was run",))


@pytest.mark.parametrize("does", [print, eval, os.system, subprocess.run])
def test_pickles_are_not_run(tmp_path, does):
    torch.save({"weight": Payload(does)}, tmp_path / "hostile.pth")
    assert does.__name__ in refused(tmp_path / "hostile.pth")


def files():
    """Files that are no checkpoints, and what is said of them."""
    yield b"", "is empty"
    yield b"\n<!DOCTYPE html><html>Virus scan warning</html>", "is a web page"
    yield b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page or a server's message"
    yield b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 178000000\n", "git lfs pull"
    yield b'{"message": "Not Found"}', "is a text (JSON)"
    yield b'{"data":{"message": "Not Found"}}', "is a text (JSON)"
    yield b"nonsense", "not a file of tensors"
    yield b"\x10\0\0\0\0\0\0\0{broken", "not a file of tensors"
    yield None, "no such file"
    for content, what in (({}, "dict"), ([1, 2], "list"), ({"step": 3}, "dict"), ({"state_dict": {"a": 1}}, "dict")):
        yield content, f"holds {what}, not a dict of tensors by name"
    yield {1: torch.zeros(3)}, "missing keys: pos_embed, "
    yield torch.zeros(3), "missing keys: pos_embed, "


@pytest.mark.parametrize(("content", "message"), list(files()))
def test_files_without_weights_are_called_what_they_are(tmp_path, content, message):
    path = tmp_path / "file.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert message in refused(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short_is_called_that(tmp_path, kind):
    path = tmp_path / "theirs.pth"
    if kind == "safetensors":
        save_file(EMA, path)
    else:
        torch.save(EMA, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[:-1000])
    assert "cut short or broken; download it again" in refused(path)


def test_a_header_of_any_length_is_no_text(tmp_path):
    """The first byte of safetensors is that of a length: here that of a brace."""
    path = tmp_path / "theirs.safetensors"
    for pad in range(0, 256, 8):
        save_file(EMA, path, metadata={"pad": "x" * pad})
        if path.read_bytes()[:1] in (b"{", b"<", b"["):
            break
    header = path.read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert AVERAGED not in weights.import_weights(path, "uvit-xs", "none", tmp_path / "ours.safetensors")
