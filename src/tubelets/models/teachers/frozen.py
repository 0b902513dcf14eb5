"""Base class of teachers, which are never trained, and a cache of their outputs."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tubelets.data.atomic import write_atomically

Output = Literal["pooler_output", "last_hidden_state", "logits"]


class Teacher(nn.Module, ABC):
    """A frozen network that computes features or logits of samples.

    Subclasses set `feature_size` and call `freeze` at the end of their constructor.

    Attributes:
        feature_size: width of the last dimension of the output.
    """

    feature_size: int

    def freeze(self) -> "Teacher":
        """Switch gradients off and evaluation mode on."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode: a target must depend neither on dropout nor on batch statistics."""
        return super().train(False)

    @abstractmethod
    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Features or logits `(B, ..., feature_size)`, without gradient. The first dimension of tensors is samples."""


class FrozenModel(Teacher):
    """A backbone or classifier of any modality, through its own forward.

    Args:
        model: a model of this package or of transformers.
        feature_size: width of the output.
        output: field of the model's output that is the target: `pooler_output`, `last_hidden_state` or `logits`.

    Example:
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> config = ResNet3DConfig(image_size=32, num_frames=4)
        >>> teacher = FrozenModel(ResNet3DModel(config), feature_size=512)
        >>> teacher(torch.zeros(2, 4, 3, 32, 32)).shape
        torch.Size([2, 512])
    """

    def __init__(self, model: nn.Module, feature_size: int, output: Output = "pooler_output") -> None:
        super().__init__()
        self.model = model
        self.feature_size = feature_size
        self.output = output
        self.freeze()

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The chosen field of the model's output.

        Args:
            *inputs: arguments of the model; floating-point tensors are cast to its precision.
            **named: keyword arguments of the model.

        Raises:
            ValueError: if the model does not return the field, or returns it with another width.
        """
        dtype = next(self.model.parameters()).dtype
        outputs = self.model(
            *(_in_precision(value, dtype) for value in inputs),
            **{name: _in_precision(value, dtype) for name, value in named.items()},
        )
        features = outputs.get(self.output)
        if features is None:
            raise ValueError(
                f"{type(self.model).__name__} returns {', '.join(outputs)}, expected {self.output!r}; choose another "
                "output of the teacher"
            )
        if features.shape[-1] != self.feature_size:
            raise ValueError(
                f"{self.output} of {type(self.model).__name__} has width {features.shape[-1]}, expected "
                f"{self.feature_size}; set the teacher's feature size to it"
            )
        return features


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)["features"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is no file of a teacher's features ({error!r}); remove it") from error


def _in_precision(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class CachedTeacher(Teacher):
    """Caches a teacher's outputs in a folder, one safetensors file per sample.

    Useful if samples repeat. Samples are identified by content (still images, fixed crops, evaluation clips), or by
    id if the teacher's input is not augmented. Random crops never repeat.

    Args:
        teacher: computes missing outputs.
        folder: folder of the cache; created if needed.
        name: identifies the teacher; files of other teachers are not read.

    Example:
        >>> import tempfile, timm
        >>> from tubelets.models.teachers.image_encoders import TimmImageEncoder
        >>> encoder = TimmImageEncoder(timm.create_model("resnet18", num_classes=0))
        >>> images = torch.rand(2, 3, 32, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = CachedTeacher(encoder, folder, "resnet18")
        ...     first, second = cached(images, (2, 2)), cached(images, (2, 2))
        ...     print(torch.equal(first, second), cached.num_computed)
        True 2
    """

    def __init__(self, teacher: Teacher, folder: str | Path, name: str) -> None:
        super().__init__()
        self.teacher, self.folder, self.name = teacher, Path(folder), name
        self.feature_size = teacher.feature_size
        self.num_computed = 0
        self.freeze()

    @torch.no_grad()
    def forward(self, *inputs: Any, ids: Sequence[str] | None = None, **named: Any) -> Tensor:
        """Return the teacher's output, from the cache if available.

        Args:
            *inputs: arguments of the teacher; tensors have samples in their first dimension.
            ids: one id per sample, which then identifies it instead of its content.
            **named: keyword arguments of the teacher.

        Returns:
            `(B, ..., feature_size)`, in the precision in which it was computed.

        Raises:
            ValueError: if no argument is a tensor, or the number of ids differs from that of the samples.
        """
        arguments: dict[Any, Any] = {**dict(enumerate(inputs)), **named}
        tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
        if not tensors:
            raise ValueError(f"a cached teacher needs a tensor among its arguments, got {sorted(map(str, arguments))}")
        first = next(iter(tensors.values()))
        if ids is not None and len(ids) != len(first):
            raise ValueError(f"got {len(ids)} ids for {len(first)} samples; pass one id per sample")
        fixed = {name: value for name, value in arguments.items() if name not in tensors}
        on_cpu = {} if ids is not None else {name: value.detach().cpu() for name, value in tensors.items()}
        paths = [
            self._path(fixed, first, {name: value[row] for name, value in on_cpu.items()}, ids and ids[row])
            for row in range(len(first))
        ]
        missing = [row for row, path in enumerate(paths) if not path.is_file()]
        if missing:
            chosen = {name: value[missing] if name in tensors else value for name, value in arguments.items()}
            computed = self.teacher(
                *(chosen[place] for place in range(len(inputs))), **{name: chosen[name] for name in named}
            )
            self.num_computed += len(missing)
            for row, features in zip(missing, computed.cpu(), strict=True):
                self._write(paths[row], features)
        return torch.stack([_read(path) for path in paths]).to(first.device)

    def _path(
        self, fixed: Mapping[Any, Any], like: Tensor, content: Mapping[Any, Tensor], sample_id: str | None
    ) -> Path:
        """The file of a sample, named by everything that determines its features."""
        digest = hashlib.blake2b(repr((self.name, fixed, like.dtype, like.shape[1:], sample_id)).encode())
        for name, value in content.items():
            digest.update(repr((name, value.dtype, value.shape)).encode())
            digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
        name = digest.hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.safetensors"

    def _write(self, path: Path, features: Tensor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may write the same file; each replaces a whole file by a whole file.
        write_atomically(path, lambda temporary: save_file({"features": features.contiguous()}, temporary))
