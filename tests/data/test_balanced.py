import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch

from sounds import tone
from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.audio import AudioSpec, decode_audio, encode_audio
from tubelets.data.sources.balanced import BalancedSource, balanced_weights
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.stream.clip_stream import ClipStream
from tubelets.data.stream.loader import ClipLoader

NAMES = ["rare", "usual"]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRecord]:
    """40 sounds, each of another length, of which two are of the rare class."""
    folder = tmp_path_factory.mktemp("sounds")
    found = []
    for number in range(40):
        path = folder / f"{number}.wav"
        path.write_bytes(encode_audio(tone((20 + number) / 1000, 8000, 300.0), 8000))
        found.append(VideoRecord(path, NAMES[number % 20 != 3], None, str(number)))
    return found


@pytest.fixture(scope="module")
def shards(records: list[VideoRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    # 40 rows are shards of several row groups.
    build_shards(records, folder, split="train", class_names=NAMES, clips_per_shard=25, progress=False)
    return folder


def collate(items: list[dict]) -> dict:
    batch = {"ids": [item["clip_id"] for item in items], "labels": [item["label"] for item in items]}
    return {**batch, "seeds": [item["seed"] for item in items], "lengths": [len(item["waveform"]) for item in items]}


def loader(source: BalancedSource, workers: int = 0) -> ClipLoader:
    spec = AudioSpec(8000, seconds=1.0)
    stream = ClipStream(source, None, audio=spec, shuffle_window=0, batch_size=4, repeat=True, split="samples")
    return ClipLoader(stream, workers, collate)


def test_weights_are_sums_over_classes() -> None:
    weights = balanced_weights([[0], [0], [0, 1], [], [2]])
    assert weights.tolist() == pytest.approx([1 / 9, 1 / 9, 4 / 9, 0, 1 / 3])
    with pytest.raises(ValueError, match="none of the 2 clips has a class"):
        balanced_weights([[], []])


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_rare_classes_are_drawn_as_often_and_bytes_belong_to_labels(
    kind: str, records: list[VideoRecord], shards: Path
) -> None:
    source = FolderSource(records) if kind == "files" else open_source(shards)
    balanced = BalancedSource(source, num_samples=400, num_draws=2)
    assert (balanced.num_shards, balanced.num_samples, balanced.class_names) == (2, 400, NAMES)
    draws = [list(balanced.iterate_shard(index)) for index in range(2)]
    assert [Counter(sample.label for sample in draw)[0] / 400 for draw in draws] == pytest.approx([0.5, 0.5], abs=0.08)
    assert [sample.medium.path for sample in draws[0]] != [sample.medium.path for sample in draws[1]]
    everything = [sample.clip_id for draw in draws for sample in draw]
    assert len(set(everything)) == 800, "a clip that is drawn again is augmented anew"
    lengths = set()
    for sample in draws[0][:60]:
        length = len(decode_audio(balanced.read_bytes(sample), 8000)) // 8
        lengths.add(length)
        assert NAMES[sample.label] == records[length - 20].label
    assert len(lengths) > 8


def test_a_draw_can_be_read_from_any_row_on(shards: Path) -> None:
    source = BalancedSource(open_source(shards), 50)
    assert list(source.iterate_shard(0))[30:] == list(source.iterate_shard(0, skip=30))
    with pytest.raises(IndexError, match="shard 1 does not exist"):
        next(source.iterate_shard(1))


def test_seeds_give_other_draws_and_other_names(records: list[VideoRecord]) -> None:
    first, second = (BalancedSource(FolderSource(records), 50, seed=seed) for seed in (0, 1))
    assert [each.medium.path for each in first.iterate_shard(0)] != [
        each.medium.path for each in second.iterate_shard(0)
    ]
    assert first.shard_names != second.shard_names, "a run is not resumed with other draws"


def test_a_stream_reads_one_draw_after_the_other_and_resumes(shards: Path) -> None:
    source = BalancedSource(open_source(shards), 8, num_draws=2)
    batches, whole = iter(loader(source)), []
    for _ in range(6):
        whole.append(next(batches))
    order = [sample.clip_id for index in range(2) for sample in source.iterate_shard(index)]
    assert [name for batch in whole[:4] for name in batch["ids"]] == order
    # Then the first draw comes again, augmented in another way.
    assert whole[4]["ids"] == whole[0]["ids"]
    assert whole[4]["seeds"] != whole[0]["seeds"]
    begun = loader(source)
    batches = iter(begun)
    for _ in range(3):
        next(batches)
    resumed = loader(source)
    resumed.load_state_dict(begun.state_dict())
    assert next(iter(resumed)) == whole[3]


def test_workers_change_nothing(shards: Path) -> None:
    source = BalancedSource(open_source(shards), 8, num_draws=2)
    alone, shared = iter(loader(source)), iter(loader(source, workers=2))
    assert [next(alone) for _ in range(4)] == [next(shared) for _ in range(4)]


def test_sources_that_cannot_be_balanced_are_refused(records: list[VideoRecord], shards: Path) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        BalancedSource(FolderSource(records), 0)
    source = open_source(shards)
    source._reader._files = [f"https://example.org/{file}" for file in source._reader._files]
    with pytest.raises(ValueError, match="is not a local Parquet file"):
        BalancedSource(source, 4)
    source._description = dataclasses.replace(source.description, annotations=())
    with pytest.raises(ValueError, match="balanced draws need labels"):
        BalancedSource(source, 4)
    with pytest.raises(IndexError, match="row 40 does not exist"):
        open_source(shards).read_row(0, 40)
    assert torch.is_tensor(decode_audio(open_source(shards).read_row(1, 14).medium.data or b"", 8000))
