"""Files of embeddings: the same features as elsewhere, with times, resumable, and searched by example."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from clip_shards import CLASS_NAMES, clip_rows, write_parquet

from tubelets import TubeletsVideoMAEConfig
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation import embedding as module
from tubelets.evaluation.embedding import Embeddings, embed
from tubelets.evaluation.features import extract_features
from tubelets.evaluation.inputs import FrameInputs
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEModel
from videos import make_video

CLIPS = ClipSpec(num_frames=4, stride=2, clips_per_video=3, sampling="dense_test")
INPUTS = FrameInputs(CLIPS, Compose((ShortSideResize(16), CenterCrop(16))), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def tiny_model() -> TubeletsVideoMAEModel:
    torch.manual_seed(0)
    config = TubeletsVideoMAEConfig(
        image_size=16, patch_size=8, num_frames=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    return TubeletsVideoMAEModel(config)


def run(source, output, **changes):
    return embed(tiny_model(), source, INPUTS, output, **{"batch_size": 6, "progress": False, **changes})


def test_rows_hold_the_features_of_every_window(tmp_path):
    source = open_source(write_parquet(tmp_path / "shards", clip_rows(7), [4, 3]))
    assert run(source, tmp_path / "all.parquet", pooling="tokens", num_workers=2) == []
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["clip_id", "window", "start", "end", "label", "features", "tokens"]
    reference = extract_features(tiny_model(), source, INPUTS, pooling="tokens", progress=False)
    names = [f"{row['clip_id']}#{row['window']}" for row in table.to_pylist()]
    assert sorted(names) == reference.clip_ids
    order = [reference.clip_ids.index(name) for name in names]
    torch.testing.assert_close(torch.tensor(table["features"].to_pylist()), reference.features[order])
    tokens = torch.tensor(table["tokens"].to_pylist(), dtype=torch.float16)
    torch.testing.assert_close(tokens, reference.tokens[order])
    assert table["label"].to_pylist() == [CLASS_NAMES[number] for number in reference.labels[order].tolist()]


def test_a_folder_of_files_has_times_and_no_labels(tmp_path):
    for seed, fps in enumerate((10, 20)):
        (tmp_path / f"{fps}.mp4").write_bytes(make_video(40, 32, 32, fps=fps, seed=seed))
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    bad = run(open_source(tmp_path, split=None), tmp_path / "out" / "all.parquet")
    assert [each["clip_id"] for each in bad] == ["broken.mp4"]
    rows = pq.read_table(tmp_path / "out" / "all.parquet").drop_columns(["features"]).to_pylist()
    assert [(row["clip_id"], row["window"]) for row in rows] == [
        (name, window) for name in ("10.mp4", "20.mp4") for window in range(3)
    ]
    first = CLIPS.indices(40, 0, torch.Generator())
    assert rows[0]["start"] == pytest.approx(first[0] / 10)
    assert rows[0]["end"] == pytest.approx((first[-1] + 1) / 10)
    assert rows[5]["end"] == pytest.approx((CLIPS.indices(40, 2, torch.Generator())[-1] + 1) / 20)
    # A single file is a collection, too.
    assert run(open_source(tmp_path / "10.mp4", split=None), tmp_path / "one.parquet") == []
    assert len(Embeddings.read(tmp_path / "one.parquet").rows) == 3


def test_an_interrupted_run_continues_and_gives_the_same_file(tmp_path, monkeypatch):
    source = open_source(write_parquet(tmp_path / "shards", clip_rows(8), [8]))
    monkeypatch.setattr(module, "_BATCHES_PER_PART", 1)
    calls = []
    work = module.pooled_features

    def failing(*arguments):
        calls.append(len(arguments[1]["pixel_values"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(module, "pooled_features", failing)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
    run(source, tmp_path / "all.parquet")
    assert sum(calls) == 24 + 6  # only the third batch was lost
    run(source, tmp_path / "all.parquet")
    assert sum(calls) == 24 + 6  # a complete file is not made again
    run(source, tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "all.parquet").equals(pq.read_table(tmp_path / "again.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.parquet", "all.parquet", "shards"]


def test_other_content_is_not_overwritten(tmp_path):
    source = open_source(write_parquet(tmp_path / "shards", clip_rows(2), [2]))
    run(source, tmp_path / "all.parquet")
    before = (tmp_path / "all.parquet").read_bytes()
    with pytest.raises(FileExistsError, match="made otherwise; delete it"):
        run(source, tmp_path / "all.parquet", pooling="tokens")
    assert (tmp_path / "all.parquet").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="delete it"):
        run(source, tmp_path / "notes.txt")


def test_search_ranks_videos_by_their_best_window():
    rows = [{"clip_id": name, "window": window} for name in "abc" for window in range(2)]
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [-1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    bank = Embeddings(features, rows, {})
    found = bank.search(torch.tensor([[0.0, 1.0]]), k=2)
    assert [(hit["clip_id"], hit["window"]) for hit in found] == [("a", 1), ("c", 0)]
    assert [hit["score"] for hit in found] == pytest.approx([1.0, 1.0])
    assert [hit["clip_id"] for hit in bank.search(bank.of("a"), exclude="a")] == ["c", "b"]
    with pytest.raises(KeyError, match="'d' is not among the 6 windows"):
        bank.of("d")
    with pytest.raises(ValueError, match=r"queries must be \(Q, 2\), got \(1, 3\)"):
        bank.search(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        bank.search(features[:1], k=0)


def test_files_that_are_no_embeddings_are_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make it with `tubelets embed`"):
        Embeddings.read(tmp_path / "none.parquet")
    shards = write_parquet(tmp_path / "shards", clip_rows(1), [1])
    with pytest.raises(ValueError, match="is not a file of embeddings"):
        Embeddings.read(next(shards.iterdir()))
