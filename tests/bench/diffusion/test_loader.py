"""Rows gathered ahead by threads are those that are gathered when asked for."""

import pytest

from bench.diffusion.loader import AHEAD, Loader


def test_every_position_is_read_once_and_a_few_ahead():
    read = []

    def rows(at):
        read.append(at)
        return at

    loader = Loader(rows, size=32, end=320)
    assert [loader.rows(at) for at in range(0, 320, 32)] == list(range(0, 320, 32))
    loader.close()
    assert sorted(read) == list(range(0, 320, 32))


def test_no_more_than_a_few_are_held():
    loader = Loader(lambda at: at, size=1, end=1000)
    loader.rows(0)
    assert len(loader.coming) == AHEAD
    loader.close()


def test_from_a_jump_on_it_reads_anew():
    """A resumed run begins elsewhere; a probe looks at the first batch."""
    loader = Loader(lambda at: at, size=32, end=3200)
    assert [loader.rows(at) for at in (0, 32, 960, 992, 0)] == [0, 32, 960, 992, 0]
    loader.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_what_goes_wrong_in_a_thread_is_told_where_the_rows_are_wanted(threads):
    def broken(at):
        raise OSError(f"no row at {at}")

    loader = Loader(broken, size=32, end=64, threads=threads)
    with pytest.raises(OSError, match="no row at 0"):
        loader.rows(0)
    loader.close()
