"""Streams are functions of their key alone."""

import pytest
import torch

from bench.diffusion.random_streams import BLOCK, STREAMS, RandomStreams, SliceDraws, image_indices

A = RandomStreams("digits", "uvit-xs", 0)


def test_the_same_key_gives_the_same_draws():
    assert torch.equal(
        torch.randn(5, generator=A.generator("noise", 7)), torch.randn(5, generator=A.generator("noise", 7))
    )


def test_every_part_of_the_key_matters():
    others = [
        RandomStreams("shapes", "uvit-xs", 0),
        RandomStreams("digits", "unet-xs", 0),
        RandomStreams("digits", "uvit-xs", 1),
        A.cell(),
    ]
    keys = [A.key(stream, position) for stream in STREAMS for position in range(100)]
    keys += [other.key("noise", 0) for other in others] + [
        A.key("sample", 1, 2),
        A.key("sample", 1200),
        A.key("sample", 2, 1),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)


def test_keys_are_pinned():
    """A change here changes every run ever made."""
    assert A.key("init") == 8612624461367586986
    assert A.key("noise", 64) == 1150559929195996171


def test_an_unknown_stream_names_the_valid_ones():
    with pytest.raises(ValueError, match="stream: 'nosie' is unknown; choose from init, gate"):
        A.key("nosie")


def test_an_epoch_holds_every_image_once_and_batches_run_on():
    drawn = torch.cat([image_indices(A, 10, start, 4) for start in range(0, 40, 4)])
    assert all(sorted(drawn[epoch * 10 : epoch * 10 + 10].tolist()) == list(range(10)) for epoch in range(4))
    assert drawn[:10].tolist() != drawn[10:20].tolist()
    assert not torch.equal(image_indices(RandomStreams("digits", "uvit-xs", 1), 10, 0, 10), drawn[:10])
    assert torch.equal(image_indices(A, 10, 7, 25), drawn[7:32])  # from anywhere, and over several epochs


def draws(start, stop, position=0, streams=A):
    return SliceDraws(streams, position, range(start, stop), torch.device("cpu"))


def test_the_draws_of_an_image_depend_on_its_place_alone():
    whole = draws(0, 100).normal((2, 3), "noise")
    assert whole.shape == (100, 2, 3) and torch.equal(draws(0, 100).normal((2, 3), "noise"), whole)
    for start, stop in ((0, 1), (5, 40), (BLOCK, 2 * BLOCK), (BLOCK - 1, BLOCK + 1), (99, 100)):
        assert torch.equal(draws(start, stop).normal((2, 3), "noise"), whole[start:stop]), (start, stop)
    assert torch.equal(draws(40, 50).uniform("time"), draws(0, 64).uniform("time")[40:50])


def test_blocks_positions_streams_and_keys_draw_apart():
    found = [
        draws(0, 64).uniform("time"),
        draws(0, 64, position=64).uniform("time"),
        draws(0, 64).uniform("augment", 0),
    ]
    found += [draws(0, 64).uniform("augment", 1), draws(0, 64, streams=A.cell()).uniform("time")]
    values = torch.cat(found)
    assert len(values.unique()) == len(values)  # every block of every draw is another
    assert float(values.min()) >= 0 and float(values.max()) < 1
