from pathlib import Path

import pytest
import torch
from clip_shards import clip_rows, video_bytes, write_parquet

from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.sources.subsets import ListedSource
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream


def folder(order=1):
    records = [VideoRecord(Path(f"{i}.mp4"), "abc"[i % 3], None, f"clip-{i:02d}") for i in range(30)]
    return FolderSource(records[::order])


def ids(source):
    return [sample.clip_id for sample in source.iterate_shard(0)]


def test_draws_are_balanced_nested_and_independent_of_the_order():
    few, more = FewShotSource(folder(), 2, seed=4), FewShotSource(folder(), 5, seed=4)
    assert [sample.label for sample in few.iterate_shard(0)] == [0, 0, 1, 1, 2, 2]
    assert set(ids(few)) < set(ids(more))
    assert ids(FewShotSource(folder(order=-1), 2, seed=4)) == ids(few)
    assert few.num_samples == 6
    assert few.class_names == ["a", "b", "c"]
    assert [sample.clip_id for sample in few.iterate_shard(0, skip=4)] == ids(few)[4:]


def test_seeds_draw_all_videos_alike_and_name_their_draw():
    draws = [FewShotSource(folder(), 3, seed=seed) for seed in range(60)]
    counts = torch.bincount(torch.tensor([int(name[5:]) for draw in draws for name in ids(draw)]), minlength=30)
    assert counts.sum() == 60 * 9
    # Each video is drawn 18 times on average; a binomial count leaves 5-31 once in 3000 times.
    assert counts.min() >= 5
    assert counts.max() <= 31
    assert len({draw.shard_names[0] for draw in draws}) > 50


def test_videos_stream_with_their_bytes_and_labels(tmp_path):
    source = FewShotSource(open_source(write_parquet(tmp_path, clip_rows(12), [7, 5])), 2)
    items = list(ClipStream(source, ClipSpec(2, 1, sampling="uniform")))
    assert sorted(item["label"] for item in items) == [0, 0, 1, 1, 2, 2]
    sample = next(source.iterate_shard(0))
    assert source.read_bytes(sample) == video_bytes(int(sample.clip_id[5:]) % 5)


def test_impossible_draws_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fewer than the 11 requested"):
        FewShotSource(folder(), 11)
    with pytest.raises(ValueError, match="at least 1"):
        FewShotSource(folder(), 0)
    with pytest.raises(IndexError, match="the source has 1 shards"):
        next(FewShotSource(folder(), 1).iterate_shard(1))
    several = FolderSource([VideoRecord(Path("a.mp4"), "x;y", None, "a")], multi_label=True)
    with pytest.raises(ValueError, match="one class"):
        FewShotSource(several, 1)


def test_listed_clips_are_found_or_missed() -> None:
    whole = ids(FewShotSource(folder(), 5))
    chosen = [whole[7], whole[2]]
    assert ids(ListedSource(folder(), chosen)) == sorted(chosen)
    with pytest.raises(ValueError, match="1 of 2 listed clips are not in the data, such as nobody"):
        ListedSource(folder(), [whole[0], "nobody"])
    with pytest.raises(ValueError, match="some of them twice"):
        ListedSource(folder(), [whole[0], whole[0]])
