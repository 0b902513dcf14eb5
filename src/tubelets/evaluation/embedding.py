"""Embeddings of a collection as one Parquet file: made in windows of each video, resumable, searched by example."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from tubelets.data.atomic import replace_synced, temporary_path, write_atomically
from tubelets.data.sources.source import Source
from tubelets.data.sources.subsets import without_ids
from tubelets.data.stream.loader import ClipLoader
from tubelets.evaluation.features import Pooling, model_fingerprint, pooled_features
from tubelets.evaluation.inputs import Inputs
from tubelets.evaluation.parts import Parts
from tubelets.evaluation.strips import clip_strips
from tubelets.models.backbones.adapters import as_backbone

_METADATA = b"tubelets"
_BATCHES_PER_PART = 64


def embed(
    model: nn.Module,
    source: Source,
    inputs: Inputs,
    output: str | Path,
    *,
    pooling: Pooling = "own",
    batch_size: int = 16,
    num_workers: int = 0,
    precision: torch.dtype = torch.float32,
    described: Mapping[str, Any] | None = None,
    strip_frames: int = 0,
    append: bool = False,
    progress: bool = True,
) -> list[dict[str, str]]:
    """Write the features of every window of every video or sound of a source to a Parquet file.

    Columns are `clip_id`, `window` (its number in the video), `start` and `end` in seconds (null if unknown), `label`
    (class name, or list of names) and `caption` if the source has them, and `features`, float32 `(D,)`; with
    `pooling="tokens"` also `tokens`, float16 `(T, D)`, and with `strip_frames` a picture of frames, `strip` (JPEG).
    An interrupted run continues at its last part, about 64 batches back. Memory does not grow with the number of
    videos.

    Args:
        model: anything that `tubelets.models.backbones.adapters.as_backbone` accepts; it is set to evaluation mode.
        source: videos or sounds, from `tubelets.data.sources.opening.open_source`; labels are not needed.
        inputs: which windows, from `tubelets.evaluation.inputs.processor_inputs`.
        output: the file to write.
        pooling: "own" pools as the model does, "tokens" also keeps the tokens.
        batch_size: windows per forward pass, rounded down to whole videos.
        num_workers: decoding processes.
        precision: type of the forward pass (autocast); float32 or bfloat16.
        described: further JSON values to store with the file, such as the name of the checkpoint.
        strip_frames: frames of a window in its picture; 0 stores none.
        append: add the videos whose ids a file of the same model and windows lacks; otherwise it must not exist.
        progress: show a progress bar.

    Returns:
        Videos that could not be read, as mappings with `shard`, `clip_id` and `reason`.

    Raises:
        FileExistsError: if the output exists and is not such a file of the same model, videos and windows.
        ValueError: if no window could be read.
        RuntimeError: if too many videos are bad, see `ClipStream`.
    """
    output = Path(output)
    backbone = as_backbone(model).eval()
    what = {
        "model": model_fingerprint(backbone),
        "precision": str(precision),
        "videos": [list(source.shard_names), source.num_samples],
        "inputs": json.loads(json.dumps(inputs.describe())),
        "pooling": pooling,
        **({"strip_frames": strip_frames} if strip_frames else {}),
        **(described or {}),
    }
    earlier: dict[str, Any] | None = None
    if output.exists():
        earlier = _metadata(output)
        if earlier == what:
            return []
        if not append:
            raise FileExistsError(
                f"{output} exists and was made otherwise; delete it, choose another name, or append to it"
            )
        source, what = _new_videos(output, earlier, what, source)
        if source.num_samples == 0:
            return []
    stream = inputs.stream(source, batch_size, times=True)
    loader = ClipLoader(stream, num_workers, inputs.collate)
    parts = Parts(output.with_name(f".{output.name}.parts"), {**what, "num_workers": num_workers})
    parts.resume(loader)
    device = next(backbone.parameters(), torch.empty(0)).device
    total = None if source.num_samples is None else source.num_samples * stream.clips_per_video
    recent: list[pa.Table] = []

    def flush() -> None:
        if recent:
            table = pa.concat_tables(recent)
            parts.add(lambda path: write_atomically(path, lambda at: pq.write_table(table, at)), len(table), loader)
            recent.clear()

    with tqdm(total=total, initial=parts.num_clips, desc="windows", unit="window", disable=not progress) as bar:
        for number, batch in enumerate(loader, start=1):
            values = {inputs.name: inputs.tensor(batch, device)}
            strips = clip_strips(batch[inputs.name], strip_frames) if strip_frames else None
            recent.append(_table(batch, source, *pooled_features(backbone, values, pooling, precision), strips))
            bar.update(len(recent[-1]))
            if number % _BATCHES_PER_PART == 0:
                flush()
    flush()
    if not parts.paths:
        raise ValueError("nothing was embedded: the data are empty, or none of the videos could be read")
    _join(([output] if earlier is not None else []) + parts.paths, output, what)
    shutil.rmtree(parts.folder)
    return loader.bad_samples


def _new_videos(
    output: Path, earlier: Mapping[str, Any] | None, what: dict[str, Any], source: Source
) -> tuple[Source, dict[str, Any]]:
    """The videos that a file lacks, and the description of the file with them.

    Raises:
        FileExistsError: if it was made by another model, or of other windows.
    """
    differing = [name for name in what if name != "videos" and (earlier or {}).get(name) != what[name]]
    if earlier is None or differing:
        raise FileExistsError(
            f"{output} cannot be appended to: {', '.join(differing) or 'its settings'} differ; use the same checkpoint "
            "and flags, or another file"
        )
    known = pq.read_table(output, columns=["clip_id"]).column("clip_id").unique().to_pylist()
    batches = earlier["videos"] if isinstance(earlier["videos"], dict) else {"0": earlier["videos"]}
    return without_ids(source, known), {**what, "videos": {**batches, str(len(batches)): what["videos"]}}


def _table(
    batch: Mapping[str, Any], source: Source, features: Tensor, tokens: Tensor | None, strips: list[bytes] | None
) -> pa.Table:
    """Rows of a batch."""
    spans = [tuple(span) for span in batch["clip_seconds"]]
    columns: dict[str, Any] = {
        "clip_id": pa.array(batch["clip_id"], pa.string()),
        "window": pa.array([int(index) for index in batch["clip_index"]], pa.int32()),
        "start": pa.array([start for start, _ in spans], pa.float64(), from_pandas=True),
        "end": pa.array([end for _, end in spans], pa.float64(), from_pandas=True),
    }
    if "label" in source.annotations:
        columns["label"] = _names(batch["label"], source)
    if "caption" in source.annotations:
        columns["caption"] = pa.array([None if each is None else str(each) for each in batch["caption"]], pa.string())
    columns["features"] = _rows_of(features)
    if strips is not None:
        columns["strip"] = pa.array(strips, pa.binary())
    if tokens is not None:
        columns["tokens"] = pa.FixedSizeListArray.from_arrays(_rows_of(tokens.flatten(0, 1)), tokens.shape[1])
    return pa.table(columns)


def _names(labels: Any, source: Source) -> pa.Array:
    """Labels as class names, or as text where they have none."""
    names = source.class_names

    def name(label: Any) -> str | None:
        return None if label is None else names[int(label)] if names else str(int(label))

    if source.multi_label:
        return pa.array([[name(each) for each in row] for row in labels], pa.list_(pa.string()))
    return pa.array([name(label) for label in labels], pa.string())


def _rows_of(values: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.contiguous().numpy().ravel()), values.shape[1])


def _join(paths: list[Path], output: Path, what: Mapping[str, Any]) -> None:
    """Write all parts into one file; the settings are stored in its schema."""
    schema = pq.read_schema(paths[-1])
    schema = schema.with_metadata({_METADATA: json.dumps(what).encode()})
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(output)
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            for path in paths:
                if (names := pq.read_schema(path).names) != schema.names:
                    raise ValueError(
                        f"{path} has the columns {names} and the new videos {schema.names}; use data with the same "
                        "annotations and the same flags, or another file"
                    )
                for group in range((file := pq.ParquetFile(path)).num_row_groups):
                    writer.write_table(file.read_row_group(group).replace_schema_metadata(schema.metadata))
        replace_synced(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, Any] | None:
    """The settings in a file of embeddings; None if it is not one."""
    try:
        stored = (pq.read_schema(path).metadata or {}).get(_METADATA)
        return None if stored is None else json.loads(stored)
    except (pa.ArrowInvalid, OSError, ValueError):
        return None


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a collection, as `embed` writes them.

    Attributes:
        features: float32 `(N, D)`.
        rows: the other columns but tokens, one mapping for each of the N windows.
        settings: what they were made with: `inputs`, `pooling`, and what `embed` was told.
        path: their file, None if they were not read from one.
    """

    features: Tensor
    rows: list[dict[str, Any]]
    settings: dict[str, Any]
    path: Path | None = None

    @classmethod
    def read(cls, path: str | Path) -> "Embeddings":
        """Read a file of `embed`.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: if it does not exist.
            ValueError: if it is not such a file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no file of embeddings; make it with `tubelets embed`")
        settings = _metadata(path)
        if settings is None:
            raise ValueError(f"{path} is not a file of embeddings; make one with `tubelets embed`")
        names = [name for name in pq.read_schema(path).names if name not in ("tokens", "strip")]
        table = pq.read_table(path, columns=names)
        column = table.column("features").combine_chunks()
        features = torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).copy())
        return cls(features.view(len(table), -1), table.drop_columns(["features"]).to_pylist(), settings, path)

    def of(self, clip_id: str) -> Tensor:
        """Features of the windows of a video, float32 `(windows, D)`.

        Raises:
            KeyError: if the video is not in the collection.
        """
        found = [place for place, row in enumerate(self.rows) if row["clip_id"] == clip_id]
        if not found:
            raise KeyError(f"clip_id {clip_id!r} is not among the {len(self.rows)} windows")
        return self.features[found]

    def strips(self, hits: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
        """Pictures of the windows that a search found, JPEG; None for each if the file holds none.

        Args:
            hits: of `search`, with `place`.
        """
        if self.path is None or not hits or "strip" not in pq.read_schema(self.path).names:
            return [None] * len(hits)
        pictures = pq.read_table(self.path, columns=["strip"]).column("strip")
        return [pictures[hit["place"]].as_py() for hit in hits]

    def search(
        self, queries: Tensor, k: int = 10, exclude: str | None = None, among: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Videos that resemble a query most, each with its best window, by cosine similarity.

        Args:
            queries: float32 `(Q, D)`, the windows of one query; each window of the collection counts with the nearest.
            k: videos to return.
            exclude: id of a video that is left out, such as the query itself.
            among: int64 `(P,)`, windows to compare, such as those of `faiss_index.candidates`; None compares all.

        Returns:
            At most `k` mappings, the best first: the columns of the window, its `place` in the file, and `score` in
            [-1, 1].

        Raises:
            ValueError: if the widths differ, or `k` is below 1.

        Example:
            >>> rows = [{"clip_id": "a"}, {"clip_id": "b"}, {"clip_id": "b"}]
            >>> bank = Embeddings(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), rows, {})
            >>> [(hit["clip_id"], round(hit["score"], 2)) for hit in bank.search(torch.tensor([[0.0, 2.0]]))]
            [('b', 1.0), ('a', 0.0)]
        """
        if queries.ndim != 2 or queries.shape[1] != self.features.shape[1] or not len(queries):
            raise ValueError(f"queries must be (Q, {self.features.shape[1]}), got {tuple(queries.shape)}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        features = self.features if among is None else self.features[among]
        places = range(len(features)) if among is None else among.tolist()
        scores = (F.normalize(features, dim=1) @ F.normalize(queries.float(), dim=1).T).amax(dim=1)
        best: dict[str, dict[str, Any]] = {}
        for number in scores.argsort(descending=True, stable=True).tolist():
            place = places[number]
            row = self.rows[place]
            if row["clip_id"] != exclude and row["clip_id"] not in best:
                best[row["clip_id"]] = {**row, "place": place, "score": float(scores[number])}
            if len(best) == k:
                break
        return list(best.values())
