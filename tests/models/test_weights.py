"""Weights in files: what is read and how, what is refused, and back again."""

import argparse
import hashlib

import pytest
import torch
from reference_dit import dit
from reference_parameters import Parameters, distance
from reference_unet import improved
from reference_uvit import scalelong, uvit
from safetensors.torch import load_file, save_file

import models
from models import weights

XS = {"patch": 2, "width": 32, "depth": 8, "heads": 2}  # uvit-xs
TIMES = torch.tensor([3.0, 700.0])


def images(channels=1):
    return torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def published():
    """A state dict in the layout of the official U-ViT for uvit-xs, and what that network gives."""
    p = Parameters()
    with torch.no_grad():
        return p, uvit(p, images(), TIMES, **XS)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pth", "safetensors", "safetensors without its suffix", "half"])
def test_import(tmp_path, published, kind):
    """From a plain file to safetensors that build and load again."""
    p, theirs = published
    path, out = tmp_path / "theirs.pth", tmp_path / "new" / "ours.safetensors"
    if kind.startswith("safetensors"):
        path = tmp_path / ("theirs.safetensors" if kind == "safetensors" else "theirs")
        save_file(dict(p), path)
    else:
        torch.save({key: x.half() if kind == "half" else x for key, x in p.items()}, path)
    line = weights.import_weights(path, "uvit-xs", "none", out)
    done = f"{path}: 122,702 parameters of uvit-xs (none, output channels: 1) from the whole file"
    assert line == f"{done} (it names no moving average), written to {out}"
    ours = models.build("uvit-xs")
    models.load_published(ours, load_file(out))
    assert distance(theirs, ours(images(), TIMES)) < (1e-2 if kind == "half" else 1e-5)
    assert [file.name for file in out.parent.iterdir()] == ["ours.safetensors"]


@torch.no_grad()
def test_a_plain_network_serves_methods_without_parameters(tmp_path, published):
    """What samples from a trained network: the same weights under another method."""
    p, theirs = published
    torch.save(dict(p), tmp_path / "theirs.pth")
    method = "skip_tuning(rho_bottom=0.5)"
    weights.import_weights(tmp_path / "theirs.pth", "uvit-xs", method, tmp_path / "ours.safetensors")
    ours = models.build("uvit-xs", method)
    models.load_published(ours, load_file(tmp_path / "ours.safetensors"))
    tuned = uvit(p, images(), TIMES, scale=lambda p, k, s: s * (0.5 + 0.5 * k / 3), **XS)
    assert distance(tuned, ours(images(), TIMES)) < 1e-5 < distance(theirs, tuned)


@torch.no_grad()
def test_the_output_channels_are_the_files(tmp_path):
    """improved-diffusion's published networks predict a variance too."""
    own, out = tmp_path / "own.pt", tmp_path / "ours.safetensors"
    torch.save(models.build("unet-xs", out_channels=2).state_dict(), own)
    assert "output channels: 2" in weights.import_weights(own, "unet-xs", "none", out)
    with pytest.raises(ValueError, match=r"shapes or types differ: conv_out\.weight do not make"):
        weights.import_weights(own, "unet-xs", "none", out, out_channels=1)


DIT = {"patch": 2, "width": 28, "depth": 8, "heads": 2}  # dit-xs-class


@torch.no_grad()
@pytest.mark.parametrize("skips", [False, True])
def test_a_dit_that_predicts_a_variance_too(tmp_path, skips):
    """What its trainer saves: weights, average and arguments. Another method is named that takes these keys."""
    p, own, out = Parameters(), tmp_path / "dit.pt", tmp_path / "ours.safetensors"
    x, label = torch.randn(2, 3, 12, 12), torch.tensor([3, 12])
    theirs = dit(p, x, TIMES, outputs=6, label=(label, 12), skips=skips, **DIT)
    torch.save({"model": {key: 2 * w for key, w in p.items()}, "ema": dict(p), "args": argparse.Namespace(lr=1)}, own)
    method, other = ("norm_cat", "plain") if skips else ("plain", "none")
    line = weights.import_weights(own, "dit-xs-class", method, out)
    assert f"dit-xs-class ({method}, output channels: 6) from ema (its moving average)" in line
    ours = models.build("dit-xs-class", method, out_channels=6)
    models.load_published(ours, load_file(out))
    assert distance(theirs, ours(x, TIMES, label)) < 1e-5
    hint = (
        "unexpected keys: skip_norms.* is for the method norm_cat" if skips else "missing keys: scaling.linears.* plain"
    )
    with pytest.raises(ValueError, match=hint.replace("* ", ".*")):
        weights.import_weights(own, "dit-xs-class", other, out)
    if skips:
        for other in ("none", "learnable(r=4)"):
            with pytest.raises(ValueError, match=r"skip_\* is for the method norm_cat"):
                weights.import_weights(own, "dit-xs-class", other, out)


@torch.no_grad()
def test_a_published_network_of_another_width_is_refused(tmp_path):
    shape = {key: getattr(models.config("unet-xs"), key) for key in ("mult", "blocks", "attention", "heads")}
    p = Parameters()
    improved(p, images(), TIMES, channels=32, outputs=2, **shape)
    torch.save(dict(p), tmp_path / "theirs.pt")
    with pytest.raises(ValueError, match=r"shapes or types differ: time_embed.0.weight do not make \(64, 16\), "):
        weights.import_weights(tmp_path / "theirs.pt", "unet-xs", "none", tmp_path / "ours.safetensors")


def test_ten_missing_and_unexpected_keys_are_listed_and_nothing_is_loaded(published):
    state = dict(published[0])
    gone = [key for key in state if key.startswith("out_blocks.")]
    for key in gone:
        del state[key]
    more = {f"time_embed.{i}.weight": torch.zeros(1) for i in range(20)}
    net = models.build("uvit-xs", seeds=(1, 2))
    with pytest.raises(ValueError) as caught:
        models.load_published(net, state | more)
    missing, unexpected = str(caught.value).removeprefix("weights: missing keys: ").split("; unexpected keys: ")
    named, rest = missing.split(" and ")
    assert rest == f"{len(gone) - 10} more" and len(named.split(", ")) == 10 and set(named.split(", ")) < set(gone)
    assert unexpected == ", ".join(list(more)[:10]) + " and 10 more" and "\n" not in str(caught.value)
    fresh = models.build("uvit-xs", seeds=(1, 2)).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in net.state_dict().items())


def test_a_counter_beside_the_weights_is_no_weight_and_whole_numbers_are_none(published):
    state = dict(published[0])
    models.load_published(models.build("uvit-xs"), state | {"step": torch.tensor(5)})
    with pytest.raises(ValueError, match="unexpected keys: temperature"):
        models.load_published(models.build("uvit-xs"), state | {"temperature": torch.tensor(5.0)})
    quantised = state["norm.bias"].mul(127).to(torch.int8)
    with pytest.raises(ValueError, match=r"types differ: norm.bias do not make \(32,\)$"):
        models.load_published(models.build("uvit-xs"), state | {"norm.bias": quantised})


def test_gates_need_their_method():
    p = Parameters()
    uvit(p, images(), TIMES, scale=scalelong(4, 4), **XS)
    hint = "unexpected keys: se.0.layer1.weight, .*se.* is for the methods learnable"
    for method, message in (("none", hint), ("learnable", "missing keys: se.layer1.weight")):
        with pytest.raises(ValueError, match=message):
            models.load_published(models.build("uvit-xs", method), dict(p))
    plain = {key: value for key, value in p.items() if not key.startswith("se.")}
    with pytest.raises(ValueError, match=r"missing keys: scaling\.nets\.17\.layer1\.weight"):
        models.load_published(models.build("uvit-xs", "learnable"), plain)


def test_a_shape_that_differs_is_refused_and_nothing_is_loaded(published):
    state = dict(published[0])
    state["pos_embed"], state["norm.bias"] = torch.zeros(1, 18, 32), torch.zeros(33)
    net = models.build("uvit-xs", seeds=(1, 2))
    message = r"shapes or types differ: pos_embed do not make \(1, 17, 32\), norm.bias do not make \(32,\)$"
    with pytest.raises(ValueError, match=message):
        models.load_published(net, state)
    assert torch.equal(net.norm.weight, torch.ones(32))


@pytest.mark.parametrize(
    ("preset", "method"),
    [("dit-xs", "plain")]
    + [(preset, name) for preset in ("uvit-xs", "unet-xs", "dit-xs") for name in models.methods() if name != "plain"],
)
def test_export_and_read_back(tmp_path, preset, method):
    net, other = (models.build(preset, method, seeds=(seed, seed)) for seed in (1, 2))
    weights.export(net, tmp_path / "weights.safetensors")
    models.load_published(other, load_file(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in net.state_dict().items())


def test_the_file_that_is_read_is_not_overwritten(tmp_path, published):
    path = tmp_path / "weights.safetensors"
    save_file(dict(published[0]), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is the file that is read; choose another"):
        weights.import_weights(path, "uvit-xs", "none", path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out: .* cannot be written"):
        weights.export(models.build("uvit-xs"), tmp_path / "file" / "weights.safetensors")


def test_the_digest_is_of_sorted_names_and_bytes():
    """Arms that share the weights of their backbone share its digest, whatever their method adds."""
    net = models.build("uvit-xs", "learnable(r=4)", seeds=(1, 2))
    content = [(name, tensor.numpy().tobytes()) for name, tensor in sorted(net.state_dict().items())]
    expected = hashlib.sha256(b"".join(name.encode() + data for name, data in content)).hexdigest()
    assert models.weights_digest(net) == expected
    backbones = (net, models.build("uvit-xs", seeds=(1, 9)), models.build("uvit-xs", seeds=(3, 2)))
    own, plain, other = (models.weights_digest(backbone, "scaling.") for backbone in backbones)
    assert own == plain == models.weights_digest(backbones[1]) != other and own != expected
