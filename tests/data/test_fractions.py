"""A share of a source: balanced, nested, resumable in the middle of a shard."""

import itertools
from pathlib import Path

import pytest
from clip_shards import clip_rows, write_parquet

from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.sources.subsets import FractionSource


def captioned(count: int, captions: int) -> FolderSource:
    return FolderSource([VideoRecord(Path(f"{i}.mp4"), None, f"c{i % captions}", f"id{i}") for i in range(count)])


def chosen(source: FractionSource) -> set[str]:
    return {sample.clip_id for index in range(source.num_shards) for sample in source.iterate_shard(index)}


def test_every_caption_keeps_its_share_and_larger_shares_contain_smaller_ones() -> None:
    whole = captioned(1000, 10)
    shares = {fraction: FractionSource(whole, fraction) for fraction in (0.01, 0.05, 0.1, 0.25, 0.5, 1)}
    assert [source.num_samples for source in shares.values()] == [10, 50, 100, 250, 500, 1000]
    found = [chosen(source) for source in shares.values()]
    assert all(small < large for small, large in itertools.pairwise(found))
    counts = [sum(name in found[2] for name in (f"id{i}" for i in range(c, 1000, 10))) for c in range(10)]
    assert set(counts) <= {9, 10, 11}
    assert chosen(FractionSource(whole, 0.1, seed=1)) != found[2]


def test_captions_of_single_videos_are_drawn_at_random() -> None:
    source = FractionSource(captioned(200, 200), 0.25)
    assert source.num_samples == 50
    assert {int(name[2:]) // 100 for name in chosen(source)} == {0, 1}


def test_shards_are_read_from_any_row_without_the_others(tmp_path: Path) -> None:
    whole = open_source(write_parquet(tmp_path / "shards", clip_rows(9), [4, 3, 2]))
    source = FractionSource(whole, 0.5)
    rows = [sample.clip_id for index in range(source.num_shards) for sample in source.iterate_shard(index)]
    assert len(rows) == source.num_samples
    for index in range(source.num_shards):
        own = [sample.clip_id for sample in source.iterate_shard(index)]
        for skip in range(len(own) + 1):
            assert [sample.clip_id for sample in source.iterate_shard(index, skip)] == own[skip:]
        assert [source.read_row(index, row).clip_id for row in range(len(own))] == own
    sample = next(source.iterate_shard(0))
    assert source.with_media(("video",)).read_bytes(sample)
    assert source.shard_names != FractionSource(whole, 0.4).shard_names


def test_shares_out_of_range_are_refused() -> None:
    for fraction in (0, 1.5):
        with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
            FractionSource(captioned(3, 3), fraction)
