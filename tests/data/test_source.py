"""All sources keep the contract of the base class."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from clip_shards import clip_rows, video_bytes, write_parquet

from tubelets.data.sources.balanced import BalancedSource
from tubelets.data.sources.blank import BlankSource
from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.sources.shards import ShardSource
from tubelets.data.sources.source import Sample, Source
from tubelets.data.sources.subsets import FractionSource, ListedSource, SubsetSource


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[type, Source]:
    folder = tmp_path_factory.mktemp("sources")
    shards = open_source(write_parquet(folder / "shards", clip_rows(9), [4, 5]))
    records = []
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(video_bytes(number))
        records.append(VideoRecord(folder / f"{number}.mp4", "ab"[number % 2], None, str(number)))
    return {
        ShardSource: shards,
        FolderSource: FolderSource(records),
        FewShotSource: FewShotSource(shards, 2),
        ListedSource: ListedSource(shards, [s.clip_id for index in (0, 1) for s in shards.iterate_shard(index)][1:]),
        BalancedSource: BalancedSource(shards, 5, num_draws=2),
        BlankSource: BlankSource(3),
        SubsetSource: SubsetSource(shards, [[0, 2, 3], [1, 2, 4]], "six rows"),
        FractionSource: FractionSource(shards, 0.75),
    }


KINDS = [ShardSource, FolderSource, FewShotSource, BalancedSource, BlankSource]
KINDS += [SubsetSource, FractionSource, ListedSource]


def test_every_source_is_tested() -> None:
    def below(kind: type) -> Iterator[type]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    ours = {each for each in below(Source) if each.__module__.startswith("tubelets.")}
    assert ours == set(KINDS)
    assert not any(inspect.isabstract(kind) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_labels_of_every_source(sources: dict[type, Source], kind: type) -> None:
    source = sources[kind]
    assert len(source.shard_names) == source.num_shards
    counted = 0
    for index in range(source.num_shards):
        samples = list(source.iterate_shard(index))
        counted += len(samples)
        assert [source.read_row(index, row).clip_id for row in range(len(samples))] == [s.clip_id for s in samples]
        assert [s.clip_id for s in source.iterate_shard(index, skip=2)] == [s.clip_id for s in samples[2:]]
        if "label" in source.annotations:
            assert source.read_labels(index) == [sample.label for sample in samples]
        else:
            with pytest.raises(ValueError, match="has no labels"):
                source.read_labels(index)
        with pytest.raises(IndexError):
            source.read_row(index, len(samples))
        assert source.read_bytes(samples[0]) == source.read_bytes(samples[0], "video")
    assert counted == (source.num_samples or 0) * (2 if kind is BalancedSource else 1)
    with pytest.raises(IndexError, match=f"shard {source.num_shards} does not exist"):
        next(source.iterate_shard(source.num_shards))


def test_an_incomplete_source_cannot_be_made() -> None:
    class Forgetful(Source):
        def __init__(self) -> None:
            self.rows: list[Sample] = []

        def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
            return iter(self.rows[skip:])

    with pytest.raises(TypeError, match="abstract"):
        Forgetful()


def test_a_medium_that_does_not_exist(sources: dict[type, Source], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no medium 'flow'; its media are \['video'\]"):
        sources[ShardSource].with_media(["flow"])
