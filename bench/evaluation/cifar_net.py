"""cifar-net: features of a small classifier of CIFAR-10's ten kinds of things; a second opinion on photographs.

It sees 16x16 pixels; larger images are averaged down. Its weights lie beside this file. This trains them anew from the
photographs of a prepared store, its labels included, in three minutes on one core, and prints how many of 5,000
photographs that it has not seen it names rightly:

    python -m bench.evaluation.cifar_net --data data
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from datasets.store import Store

WEIGHTS = Path(__file__).with_name("cifar-net.safetensors")
SIZE, DIM, KINDS = 16, 128, 10
HELD_OUT, EPOCHS, BATCH, RATE, SEED = 5_000, 4, 128, 4e-3, 20231026


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """x + f(x), f of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, H, W), the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class Classifier(nn.Module):
    """0.46 million weights; float32 (B, 3, 16, 16) in [-1, 1] to features (B, 128) and logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, 32), nn.MaxPool2d(2), convolution(32, 64), Residual(64), nn.MaxPool2d(2),
            convolution(64, DIM), Residual(DIM), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.kinds = nn.Linear(DIM, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.kinds(self.features(x))
        return logits


class CifarNet(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """The features before the last layer, as torch-fidelity wants an extractor."""

    def __init__(self, name: str, features_list: Sequence[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.classifier = Classifier()
        self.classifier.load_state_dict(load_file(WEIGHTS))
        self.eval().requires_grad_(False)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return (str(DIM),)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer, for every metric."""
        return str(DIM)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 (B, 3, H, W), H and W at least 16, to float32 (B, 128)."""
        x = F.adaptive_avg_pool2d(images.to(torch.float32) / 127.5 - 1, SIZE)
        return (self.classifier.features(x),)


def train(images: Tensor, labels: Tensor, epochs: int = EPOCHS) -> tuple[Classifier, float]:
    """A classifier of uint8 (N, 3, H, W), and the share of the last 5,000 images, not trained on, that it names."""
    torch.manual_seed(SEED)
    x = F.adaptive_avg_pool2d(images.float() / 127.5 - 1, SIZE)
    model, seen = Classifier().to(memory_format=torch.channels_last), len(x) - HELD_OUT
    steps = seen // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for epoch in range(epochs):
        for rows in torch.split(torch.randperm(seen)[: steps * BATCH], BATCH):
            loss = F.cross_entropy(model(augmented(x[rows])), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch + 1} of {epochs}: {accuracy(model, x[seen:], labels[seen:]):.1%} of the others", flush=True
        )
    return model, accuracy(model, x[seen:], labels[seen:])


def augmented(x: Tensor) -> Tensor:
    """Half of the images mirrored, and the batch moved by up to two pixels."""
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
    top, left = torch.randint(0, 5, (2,)).tolist()
    return F.pad(x, (2, 2, 2, 2), mode="reflect")[:, :, top : top + SIZE, left : left + SIZE]


@torch.inference_mode()
def accuracy(model: Classifier, x: Tensor, labels: Tensor) -> float:
    """Share of images whose kind has the largest logit."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in torch.split(x, 500)])
    model.train()
    return float((found == labels).float().mean())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where cifar10 is prepared (default: data)")
    store = Store.open(parser.parse_args().data, "cifar10")
    torch.set_num_threads(1)  # another count gives other bits
    model, right = train(torch.from_numpy(store.images.copy()), torch.from_numpy(store.labels))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, WEIGHTS)
    print(f"{WEIGHTS}: names {right:.1%} of {HELD_OUT} photographs that it has not seen; data {store.digest[:12]}")


if __name__ == "__main__":
    main()
