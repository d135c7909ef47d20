import pytest

from datamodules.convert.progress import ConversionProgress, size


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7 B"), (1234, "1.23 kB"), (5_300_000, "5.3 MB"), (11e12, "11 TB"), (5e15, "5000 TB")]
)
def test_sizes_for_people(count, text):
    assert size(count) == text


def test_the_estimate_of_all_bytes(capsys):
    # Two of ten sources were done by an earlier run, one more follows, one is skipped.
    with ConversionProgress("sa1b to shards", total=10, done=2, written=1_000_000) as bar:
        bar.advance(500_000)
        assert bar.expected_bytes == 5_000_000
        bar.advance(0)
        assert bar.expected_bytes == 3_750_000
    shown = " ".join(capsys.readouterr().err.split())
    assert "4/10" in shown
    assert "1.5 MB of about 3.75 MB" in shown
