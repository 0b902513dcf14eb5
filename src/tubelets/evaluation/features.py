"""Features of a frozen model over videos or audio: extracted once, cached on disk, resumable."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from tubelets.data.atomic import write_atomically
from tubelets.data.sources.source import Source
from tubelets.data.stream.loader import ClipLoader
from tubelets.evaluation.inputs import Inputs
from tubelets.evaluation.parts import Parts
from tubelets.models.backbones.adapters import as_backbone
from tubelets.models.common.backbone import Backbone
from tubelets.tasks.metrics import check_no_nan

Pooling = Literal["own", "tokens"]

_DESCRIPTION, _TENSORS = "features.json", "features.safetensors"
_BATCHES_PER_PART = 64


@dataclass(frozen=True)
class FeatureSet:
    """Features of a split.

    Attributes:
        features: `(N, D)`, pooled by the model; float32.
        labels: int64 `(N,)`.
        clip_ids: names of the N clips.
        class_names: names of the classes, or None.
        tokens: `(N, T, D)`, token features of each clip, or None; float16.

    Raises:
        ValueError: if lengths or labels do not fit, or features are NaN.
    """

    features: Tensor
    labels: Tensor
    clip_ids: list[str]
    class_names: list[str] | None = None
    tokens: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.features) if self.features.ndim == 2 else -1
        if self.labels.shape != (count,) or len(self.clip_ids) != count:
            raise ValueError(
                f"features must be (N, D) with N labels and N clip_ids, got {tuple(self.features.shape)}, "
                f"{tuple(self.labels.shape)} and {len(self.clip_ids)}"
            )
        if self.tokens is not None and (self.tokens.ndim != 3 or len(self.tokens) != count):
            raise ValueError(f"tokens must be ({count}, T, D), got {tuple(self.tokens.shape)}")
        if self.labels.is_floating_point() or (count and int(self.labels.min()) < 0):
            raise ValueError("labels must be class indices (int64) from 0 on")
        check_no_nan("features", self.features)
        known = len(self.class_names or ())
        if known and count and int(self.labels.max()) >= known:
            raise ValueError(f"labels must lie in [0, {known}), the class names, got {int(self.labels.max())}")

    @property
    def num_classes(self) -> int:
        """Number of classes: of names, or one more than the highest label."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def subset(self, indices: Tensor) -> "FeatureSet":
        """Select clips by index, int64 `(M,)`."""
        names = [self.clip_ids[index] for index in indices.tolist()]
        tokens = None if self.tokens is None else self.tokens[indices]
        return FeatureSet(self.features[indices], self.labels[indices], names, self.class_names, tokens)

    def save(self, folder: str | Path) -> None:
        """Write `features.safetensors`, then `features.json`, which marks a complete set."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"features": self.features.contiguous(), "labels": self.labels}
        if self.tokens is not None:
            tensors["tokens"] = self.tokens.contiguous()
        write_atomically(folder / _TENSORS, lambda path: save_file(tensors, path))
        description = json.dumps({"clip_ids": self.clip_ids, "class_names": self.class_names})
        write_atomically(folder / _DESCRIPTION, lambda path: path.write_text(description, encoding="utf-8"))

    @classmethod
    def load(cls, folder: str | Path) -> "FeatureSet":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if the folder has no complete set.
            ValueError: if one of its files is corrupt.
        """
        folder = Path(folder)
        if not (folder / _DESCRIPTION).is_file():
            raise FileNotFoundError(f"{folder} has no complete features; run the extraction again to finish it")
        try:
            description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            tensors = load_file(folder / _TENSORS)
            names = description["clip_ids"], description["class_names"]
            return cls(tensors["features"], tensors["labels"], *names, tensors.get("tokens"))
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{folder} holds no features of this package ({error!r}); remove it") from error


def model_fingerprint(model: nn.Module) -> str:
    """Twelve hexadecimal digits that change with any weight of a model."""
    digest = hashlib.blake2b(digest_size=6)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def extract_features(
    model: nn.Module,
    source: Source,
    inputs: Inputs,
    *,
    pooling: Pooling = "own",
    batch_size: int = 16,
    num_workers: int = 0,
    precision: torch.dtype = torch.float32,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Extract features of every labelled video or sound of a source with a frozen backbone.

    Features are the `pooler_output` of the backbone, so each model is measured with the pooling of its authors. With a
    cache folder, complete features are read from it, and an interrupted extraction resumes at its last part. The
    subfolder is named after everything that determines the features: weights, videos, sampling and transform.

    Args:
        model: anything that `tubelets.models.backbones.adapters.as_backbone` accepts; set to evaluation mode during
            extraction.
        source: videos or sounds with one label each, from `tubelets.data.sources.opening.open_source`.
        inputs: which frames, spectrograms or skeletons.
        pooling: "own" pools as the model does; "tokens" also keeps the tokens, without class tokens, for attentive
            probes, see `Backbone.tokens`.
        batch_size: clips per forward pass.
        num_workers: decoding processes; the result does not depend on them.
        precision: type of the forward pass (autocast); float32 or bfloat16.
        cache_dir: where features are cached; None caches nothing.
        progress: show a progress bar.

    Returns:
        The features, sorted by clip id.

    Raises:
        TypeError: if the model is not a backbone.
        ValueError: if the pooling is unknown, the source is unlabelled or has several labels per clip, or no clip could
            be read.
        RuntimeError: if too many videos are bad, see `ClipStream`.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if "label" not in source.annotations:
        raise ValueError("the videos have no labels; frozen evaluation needs them (a `label` column)")
    if source.multi_label:
        raise ValueError("the clips have several labels each; frozen evaluation needs one, so fine-tune instead")
    backbone = as_backbone(model)
    what = {
        "model": [type(backbone).__name__, model_fingerprint(backbone), str(precision)],
        "videos": [source.shard_names, source.num_samples, source.fingerprints()],
        "inputs": inputs.describe(),
        "pooling": pooling,
    }
    folder = None
    if cache_dir is not None:
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        folder = Path(cache_dir) / name
        if (folder / _DESCRIPTION).is_file():
            return FeatureSet.load(folder)
        folder.mkdir(parents=True, exist_ok=True)
    stream = inputs.stream(source, batch_size)
    loader = ClipLoader(stream, num_workers, inputs.collate)
    # The loader's position depends on its workers.
    parts = None if folder is None else Parts(folder / "parts", {**what, "num_workers": num_workers})
    if parts is not None:
        parts.resume(loader)
    rows = _Rows(parts)
    was_training = backbone.training
    backbone.eval()
    device = next(backbone.parameters(), torch.empty(0)).device
    total = None if source.num_samples is None else source.num_samples * stream.clips_per_video
    with tqdm(
        total=total, initial=parts.num_clips if parts else 0, desc="features", unit="clip", disable=not progress
    ) as bar:
        for number, batch in enumerate(loader, start=1):
            values = {inputs.name: inputs.tensor(batch, device)}
            features, tokens = pooled_features(backbone, values, pooling, precision)
            names = [f"{name}#{k}" for name, k in zip(batch["clip_id"], batch["clip_index"], strict=True)]
            rows.add(FeatureSet(features, batch["label"], names, tokens=tokens))
            bar.update(len(names))
            if number % _BATCHES_PER_PART == 0:
                rows.flush(loader)
    backbone.train(was_training)
    rows.flush(loader)
    result = replace(rows.collect(), class_names=source.class_names)
    if folder is not None:
        result.save(folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)
    return result


@torch.no_grad()
def pooled_features(
    backbone: Backbone, inputs: dict[str, Tensor], pooling: Pooling, precision: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Features of a batch from a frozen backbone, on the CPU.

    Args:
        backbone: in evaluation mode.
        inputs: its inputs by argument, on its device.
        pooling: see `extract_features`.
        precision: type of the forward pass (autocast).

    Returns:
        Pooled features, float32 `(B, D)`, and, if requested, tokens, float16 `(B, T, D)`.
    """
    device = next(iter(inputs.values())).device.type
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        output = backbone(**inputs)
    tokens = backbone.tokens(output.last_hidden_state).to("cpu", torch.float16) if pooling == "tokens" else None
    return output.pooler_output.to("cpu", torch.float32), tokens


class _Rows:
    """Features so far: recent rows in memory, and finished parts in the cache folder."""

    def __init__(self, parts: Parts | None) -> None:
        self._parts = parts
        self._recent: list[FeatureSet] = []

    def add(self, rows: FeatureSet) -> None:
        self._recent.append(rows)

    def flush(self, loader: ClipLoader) -> None:
        """Write the rows in memory as a part; without a cache folder they stay in memory."""
        if self._parts is None or not self._recent:
            return
        part = _merge(self._recent)
        self._parts.add(part.save, len(part.clip_ids), loader)
        self._recent = []

    def collect(self) -> FeatureSet:
        """All rows, sorted by name."""
        rows = [FeatureSet.load(path) for path in (self._parts.paths if self._parts else [])] + self._recent
        if not rows:
            raise ValueError("no clip could be read: the split is empty, or all of its videos are bad")
        merged = _merge(rows)
        order = sorted(range(len(merged.clip_ids)), key=merged.clip_ids.__getitem__)
        return merged.subset(torch.tensor(order))


def _merge(rows: Sequence[FeatureSet]) -> FeatureSet:
    tokens = [row.tokens for row in rows if row.tokens is not None]
    return FeatureSet(
        torch.cat([row.features for row in rows]),
        torch.cat([row.labels for row in rows]),
        [name for row in rows for name in row.clip_ids],
        tokens=torch.cat(tokens) if tokens else None,
    )
