import json
from itertools import islice

import pytest
import torch
from clip_shards import clip_rows, video_bytes, write_parquet

from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader

SPEC = ClipSpec(num_frames=2, stride=2)
# Torch advises against more workers than cores; that is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
SIZES = [7, 1, 9, 5, 6, 4, 8, 3]
ALL = [f"clip-{number:03d}" for number in range(sum(SIZES))]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_parquet(tmp_path_factory.mktemp("shards"), clip_rows(sum(SIZES)), SIZES))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    rows = clip_rows(sum(SIZES), {2: b"", 3: b"text", 20: video_bytes(0)[:300], 40: b"x"})
    return open_source(write_parquet(tmp_path_factory.mktemp("damaged"), rows, SIZES))


def shift_colours(clip, generator):
    """Stands for an augmentation: its result depends on the generator."""
    return clip + torch.randint(100, (1,), generator=generator).to(torch.uint8)


def make_loader(source, num_workers, *, spec=SPEC, persistent_workers=False, **options):
    options = {"batch_size": 4, "shuffle_window": 6, **options}
    stream = ClipStream(source, spec, shift_colours, **options)
    return ClipLoader(stream, num_workers, persistent_workers=persistent_workers)


def comparable(batches):
    return [
        {**batch, "pixel_values": batch["pixel_values"].tolist(), "label": batch["label"].tolist()} for batch in batches
    ]


def ids(batches):
    return [name for batch in batches for name in batch["clip_id"]]


@pytest.mark.parametrize("split", ["shards", "samples"])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (1, 2), (2, 0), (2, 2), (3, 2)])
def test_each_video_exactly_once_an_epoch(source, split, world_size, num_workers):
    found = []
    for rank in range(world_size):
        loader = make_loader(source, num_workers, split=split, rank=rank, world_size=world_size)
        found += ids(loader)
    assert sorted(found) == ALL


@pytest.mark.parametrize("repeat", [False, True])
def test_global_batches_do_not_depend_on_ranks_and_workers(source, repeat):
    """Batch by batch and clip by clip: 1 rank x 4 is the same as 2 ranks x 2, with and without workers."""
    reference = comparable(islice(make_loader(source, 0, split="samples", repeat=repeat), 25))
    assert repeat == (len(ids(reference)) > len(ALL))
    for world_size, num_workers in ((1, 2), (2, 0), (2, 3)):
        options = {"split": "samples", "repeat": repeat, "batch_size": 4 // world_size, "world_size": world_size}
        ranks = [
            comparable(islice(make_loader(source, num_workers, rank=rank, **options), 25)) for rank in range(world_size)
        ]
        for step, batch in enumerate(reference):
            parts = [rank[step] for rank in ranks if step < len(rank)]
            for key, values in batch.items():
                # Clips of a global batch go round the ranks.
                merged = [
                    parts[place % world_size][key][place // world_size]
                    for place in range(sum(len(part[key]) for part in parts))
                ]
                assert merged == values, (world_size, num_workers, step, key)


def test_batches_of_several_clips_hold_whole_videos(source):
    loader = make_loader(source, 2, spec=ClipSpec(2, 2, clips_per_video=2), split="samples")
    batches = list(loader)
    assert sorted(ids(batches)) == sorted(ALL * 2)
    assert all(batch["clip_id"][::2] == batch["clip_id"][1::2] for batch in batches)


def test_batch_contents(source):
    batch = next(iter(make_loader(source, 0)))
    assert batch["pixel_values"].shape == (4, 2, 3, 16, 24)
    assert (batch["pixel_values"].dtype, batch["label"].dtype) == (torch.uint8, torch.int64)
    assert set(batch) == {"pixel_values", "label", "clip_id", "clip_index", "seed", "epoch"}
    assert [int(name[5:]) % 3 for name in batch["clip_id"]] == batch["label"].tolist()


def test_own_collate_runs_on_items_without_bookkeeping(source):
    stream = ClipStream(source, SPEC, batch_size=4)
    batch = next(iter(ClipLoader(stream, 0, lambda items: {"keys": [sorted(item) for item in items]})))
    assert batch["keys"] == [["clip_id", "clip_index", "epoch", "label", "pixel_values", "seed"]] * 4


@pytest.mark.parametrize("split", ["shards", "samples"])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
@pytest.mark.parametrize("repeat", [True, False])
def test_resume_is_exact(damaged, split, num_workers, repeat):
    """Bad videos lie between the clips, and workers have prefetched beyond the saved batch."""
    options = {"split": split, "repeat": repeat}
    loader = make_loader(damaged, num_workers, **options)
    batches, states, reports = [], [json.dumps(loader.state_dict())], [[]]
    for batch in islice(loader, 26):
        batches.append(batch)
        states.append(json.dumps(loader.state_dict()))
        reports.append(list(loader.bad_samples))
    whole, skipped = comparable(batches), loader.num_skipped
    assert {int(entry["clip_id"][5:]) for entry in loader.bad_samples} == {2, 3, 20, 40}
    stops = range(0, len(whole) + 1, 4) if num_workers == 0 else (1, len(whole) - 2)
    for stop in stops:
        resumed = make_loader(damaged, num_workers, **options)
        resumed.load_state_dict(json.loads(states[stop]))
        assert comparable(islice(resumed, len(whole) - stop)) == whole[stop:], stop
        assert (resumed.num_skipped, stop) == (skipped, stop)
        merged = reports[stop] + [entry for entry in resumed.bad_samples if entry not in reports[stop]]
        assert len(merged) == 4


def test_resume_in_the_middle_of_a_video(source):
    options = {"spec": ClipSpec(2, 2, clips_per_video=3), "split": "shards", "repeat": True}
    loader = make_loader(source, 2, **options)
    batches, state = [], None
    for step, batch in enumerate(islice(loader, 12)):
        batches.append(batch)
        if step == 4:
            state = loader.state_dict()
    assert any(worker["clip"] for worker in state["workers"])
    resumed = make_loader(source, 2, **options)
    resumed.load_state_dict(state)
    assert comparable(islice(resumed, 7)) == comparable(batches[5:])


def test_state_of_another_run_is_refused(source, tmp_path):
    state = make_loader(source, 2).state_dict()
    with pytest.raises(ValueError, match="num_workers: 2 saved, 1 now"):
        make_loader(source, 0).load_state_dict(state)
    with pytest.raises(ValueError, match=r"batch_size: 4 saved, 2 now; seed: 0 saved, 1 now"):
        make_loader(source, 2, batch_size=2, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="rank: 0 saved, 1 now"):
        make_loader(source, 2, rank=1, world_size=2).load_state_dict(state)
    other = open_source(write_parquet(tmp_path, clip_rows(4), [2, 2]))
    with pytest.raises(ValueError, match=r"num_shards: 8 saved, 2 now; shards_hash"):
        make_loader(other, 2).load_state_dict(state)
    with pytest.raises(ValueError, match="version None"):
        make_loader(source, 2).load_state_dict({})


def test_repeating_loader_goes_on_and_single_pass_starts_again(source):
    endless = make_loader(source, 2, repeat=True)
    first, second = ids(islice(endless, 4)), ids(islice(endless, 4))
    assert first + second == ids(islice(make_loader(source, 2, repeat=True), 8))
    single = make_loader(source, 0)
    assert ids(islice(single, 3)) == ids(single)[:12]
    assert sorted(ids(single)) == ALL


def test_persistent_workers_repeat_the_pass(source):
    loader = make_loader(source, 2, persistent_workers=True)
    first = ids(loader)
    state = json.dumps(loader.state_dict())
    assert ids(loader) == first
    assert json.dumps(loader.state_dict()) == state


def test_bad_videos_are_counted_once_each(damaged):
    loader = make_loader(damaged, 2, repeat=True)
    epochs = [batch["epoch"] for batch in islice(loader, 30)]
    assert max(max(epoch) for epoch in epochs) >= 2
    assert len(loader.bad_samples) == 4
    assert loader.num_skipped > 4


def test_bad_videos_at_the_end_of_a_pass_are_reported(tmp_path):
    source = open_source(write_parquet(tmp_path, clip_rows(8, {3: b"", 7: b"x"}), [4, 4]))
    for num_workers, batch_size in ((0, 6), (0, 5), (2, 3)):
        loader = make_loader(source, num_workers, shuffle_window=0, batch_size=batch_size)
        assert len(ids(loader)) == 6
        assert sorted(entry["clip_id"] for entry in loader.bad_samples) == ["clip-003", "clip-007"]


def test_worker_errors_reach_the_caller(damaged):
    with pytest.raises(ValueError, match=r"shard train-00000-of-00008\.parquet, clip clip-002: "):
        next(iter(make_loader(damaged, 1, on_bad_sample="raise", shuffle_window=0)))


def test_loader_leaves_the_global_generator_alone(source):
    before = torch.get_rng_state()
    list(islice(make_loader(source, 2), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_number_of_workers_is_checked(source):
    with pytest.raises(ValueError, match="num_workers=-1"):
        make_loader(source, -1)
    with pytest.raises(ValueError, match=r"each of 9 consumers \(1 ranks x 9 workers\)"):
        make_loader(source, 9, split="shards")
