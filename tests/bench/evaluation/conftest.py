"""What the tests of extractors and distances share: small-conv, and the digits."""

import numpy as np
import pytest
import torch

from bench.evaluation import features
from datasets import Store


@pytest.fixture(scope="module")
def extractor():
    return features.load("small-conv")


@pytest.fixture(scope="module")
def real(data):
    return torch.from_numpy(np.array(Store.open(data, "digits").images))
