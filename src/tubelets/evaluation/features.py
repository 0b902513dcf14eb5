"""Features of a frozen model over videos or sounds: extracted once, kept on disk, continued after an interruption."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from tubelets.data.sources.source import Source
from tubelets.data.stream.loader import ClipLoader
from tubelets.evaluation.inputs import FrameInputs, SoundInputs

Pooling = Literal["mean", "tokens"]

_DESCRIPTION, _TENSORS, _PROGRESS = "features.json", "features.safetensors", "progress.json"
_BATCHES_PER_PART = 64


@dataclass(frozen=True)
class FeatureSet:
    """Features of a split.

    Attributes:
        features: `(N, D)`, or `(N, tokens, D)`; float32, or float16 for tokens.
        labels: int64 `(N,)`.
        clip_ids: names of the N clips.
        class_names: names of the classes, or None where the data have none.
    """

    features: Tensor
    labels: Tensor
    clip_ids: list[str]
    class_names: list[str] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes: of names, else one more than the highest label."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def pooled(self) -> "FeatureSet":
        """The same clips with the mean over tokens as their features, float32 `(N, D)`."""
        if self.features.ndim == 2:
            return self
        # Half precision sums of hundreds of tokens would lose digits; a block at a time keeps memory flat.
        means = torch.cat([block.float().mean(dim=1) for block in self.features.split(256)])
        return FeatureSet(means, self.labels, self.clip_ids, self.class_names)

    def subset(self, indices: Tensor) -> "FeatureSet":
        """The clips with those indices, int64 `(M,)`."""
        names = [self.clip_ids[index] for index in indices.tolist()]
        return FeatureSet(self.features[indices], self.labels[indices], names, self.class_names)

    def save(self, folder: str | Path) -> None:
        """Write `features.safetensors` and `features.json`; the latter last, so that it marks a complete set."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"features": self.features.contiguous(), "labels": self.labels}
        _replace(folder / _TENSORS, lambda path: save_file(tensors, path))
        description = {"clip_ids": self.clip_ids, "class_names": self.class_names}
        _replace(folder / _DESCRIPTION, lambda path: path.write_text(json.dumps(description), encoding="utf-8"))

    @classmethod
    def load(cls, folder: str | Path) -> "FeatureSet":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if the folder holds no complete set.
        """
        folder = Path(folder)
        if not (folder / _DESCRIPTION).is_file():
            raise FileNotFoundError(f"{folder} holds no complete features; extract them again to go on")
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
        return cls(tensors["features"], tensors["labels"], description["clip_ids"], description["class_names"])


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(temporary)
    os.replace(temporary, path)


def output_features(output: Any, pooling: Pooling = "mean") -> Tensor:
    """The features in the output of a backbone.

    Args:
        output: what a model of transformers or of this package returned; its `last_hidden_state` is `(B, tokens, D)`
            or, for convolutional networks, a map `(B, D, T, H, W)`.
        pooling: "mean" over tokens or map cells, or all "tokens".

    Returns:
        `(B, D)`, or `(B, tokens, D)`.

    Raises:
        ValueError: if the output has no `last_hidden_state`, or the pooling is unknown.

    Example:
        >>> from types import SimpleNamespace
        >>> output_features(SimpleNamespace(last_hidden_state=torch.ones(2, 5, 3))).shape
        torch.Size([2, 3])
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}")
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None:
        raise ValueError(f"{type(output).__name__} has no last_hidden_state; give a backbone, such as AutoModel loads")
    if hidden.ndim > 3:
        hidden = hidden.flatten(2).transpose(1, 2)
    return hidden.mean(dim=1) if pooling == "mean" else hidden


def model_fingerprint(model: torch.nn.Module) -> str:
    """Twelve hexadecimal digits that change with any weight of a model."""
    digest = hashlib.blake2b(digest_size=6)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def extract_features(
    model: PreTrainedModel,
    source: Source,
    inputs: FrameInputs | SoundInputs,
    *,
    pooling: Pooling = "mean",
    batch_size: int = 16,
    num_workers: int = 0,
    precision: torch.dtype = torch.float32,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Run a frozen backbone over every labelled video or sound of a source.

    With a cache folder, complete features are read from it, and an interrupted extraction continues at its last part.
    The folder inside it is named after everything that decides the features: weights, videos, sampling, transform.

    Args:
        model: a backbone; a model with a head is stripped to its `base_model`. It is in evaluation mode meanwhile.
        source: videos or sounds with one label each, from `tubelets.data.sources.opening.open_source`.
        inputs: which frames, or which spectrograms.
        pooling: "mean" over tokens, float32, or all "tokens", float16.
        batch_size: clips a forward pass.
        num_workers: decoding processes; the result does not depend on it.
        precision: type the forward pass computes in (autocast); float32 or bfloat16.
        cache_dir: where features are kept; None keeps nothing.
        progress: show a progress bar.

    Returns:
        The features, sorted by clip id.

    Raises:
        ValueError: if the source is unlabelled or has several labels a clip, or no clip could be read.
        RuntimeError: if too many videos are bad, see `ClipStream`.
    """
    if "label" not in source.annotations:
        raise ValueError("the videos have no labels; frozen evaluation needs them (a `label` column)")
    if source.multi_label:
        raise ValueError("the clips have several labels each; frozen evaluation needs one, so fine-tune instead")
    backbone = model.base_model
    what = {
        "model": [type(backbone).__name__, model_fingerprint(backbone), str(precision)],
        "videos": [source.shard_names, source.num_samples],
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
    parts = _Parts(folder, num_workers, what)
    loader = ClipLoader(stream, num_workers, inputs.collate)
    parts.resume(loader)
    was_training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    total = None if source.num_samples is None else source.num_samples * stream.clips_per_video
    with tqdm(total=total, initial=parts.num_clips, desc="features", unit="clip", disable=not progress) as bar:
        for number, batch in enumerate(loader, start=1):
            values = _forward(backbone, inputs.tensor(batch, device), pooling, precision)
            names = [f"{name}#{k}" for name, k in zip(batch["clip_id"], batch["clip_index"], strict=True)]
            parts.add(values, batch["label"], names)
            bar.update(len(names))
            if number % _BATCHES_PER_PART == 0:
                parts.flush(loader)
    backbone.train(was_training)
    parts.flush(loader)
    result = parts.collect(getattr(source, "class_names", None))
    if folder is not None:
        result.save(folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)
    return result


@torch.no_grad()
def _forward(backbone: torch.nn.Module, values: Tensor, pooling: Pooling, precision: torch.dtype) -> Tensor:
    with torch.autocast(values.device.type, precision, enabled=precision != torch.float32):
        found = output_features(backbone(**{str(backbone.main_input_name): values}), pooling)
    return found.to("cpu", torch.float32 if pooling == "mean" else torch.float16)


class _Parts:
    """Features so far: rows in memory, and in the cache folder those of finished parts with the loader's position."""

    def __init__(self, folder: Path | None, num_workers: int, what: dict[str, Any]) -> None:
        self._folder = None if folder is None else folder / "parts"
        self._what = {**what, "num_workers": num_workers}  # the loader's position is that of its workers
        self._done: list[str] = []
        self._rows: list[tuple[Tensor, Tensor, list[str]]] = []
        self.num_clips = 0

    def resume(self, loader: ClipLoader) -> None:
        """Take up finished parts, if they are of the same extraction."""
        if self._folder is None or not (self._folder / _PROGRESS).is_file():
            return
        progress = json.loads((self._folder / _PROGRESS).read_text(encoding="utf-8"))
        if progress["what"] == self._what:
            loader.load_state_dict(progress["loader"])
            self._done, self.num_clips = progress["parts"], progress["num_clips"]

    def add(self, features: Tensor, labels: Tensor, names: list[str]) -> None:
        self._rows.append((features, labels, names))

    def flush(self, loader: ClipLoader) -> None:
        """Write the rows in memory as a part; without a cache folder they stay."""
        if self._folder is None or not self._rows:
            return
        features, labels, names = self._merge(self._rows)
        name = f"part-{len(self._done):05d}"
        FeatureSet(features, labels, names).save(self._folder / name)
        self._done.append(name)
        self.num_clips += len(names)
        self._rows = []
        state = {"what": self._what, "loader": loader.state_dict(), "parts": self._done, "num_clips": self.num_clips}
        _replace(self._folder / _PROGRESS, lambda path: path.write_text(json.dumps(state), encoding="utf-8"))

    def collect(self, class_names: list[str] | None) -> FeatureSet:
        """All rows, sorted by name."""
        rows = list(self._rows)
        for name in self._done:
            part = FeatureSet.load(Path(str(self._folder)) / name)
            rows.append((part.features, part.labels, part.clip_ids))
        if not rows:
            raise ValueError("no clip could be read: the split is empty, or all of its videos are bad")
        features, labels, names = self._merge(rows)
        order = sorted(range(len(names)), key=names.__getitem__)
        return FeatureSet(features[order], labels[order], [names[index] for index in order], class_names)

    @staticmethod
    def _merge(rows: Sequence[tuple[Tensor, Tensor, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
        features, labels = torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
        return features, labels, [name for row in rows for name in row[2]]
