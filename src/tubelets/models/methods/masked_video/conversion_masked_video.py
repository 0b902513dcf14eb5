"""Official VideoMAE-family checkpoints and ours, in both directions (sigma.md, sections 7.1 and 10)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, convert_to_official, convert_to_ours, read_checkpoint

BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _weight_and_bias(official: str, ours: str) -> Iterator[Rename]:
    for leaf in ("weight", "bias"):
        yield Rename(f"{official}.{leaf}", f"{ours}.{leaf}")


def _blocks(official: str, ours: str) -> Iterator[Rename]:
    attention = f"{ours}.attention.attention"
    yield Rename(
        f"{official}.attn.qkv.weight", tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
    )
    yield Rename(f"{official}.attn.q_bias", f"{attention}.query.bias")
    yield Rename(f"{official}.attn.v_bias", f"{attention}.value.bias")
    for theirs, mine in BLOCK.items():
        yield from _weight_and_bias(f"{official}.{theirs}", f"{ours}.{mine}")


def encoder_table(prefix: str) -> list[Rename]:
    """Lines for the encoder, whose official names start with `prefix` (`encoder.` or nothing)."""
    return [
        *_weight_and_bias(f"{prefix}patch_embed.proj", "videomae.embeddings.patch_embeddings.projection"),
        *_blocks(f"{prefix}blocks.{{}}", "videomae.encoder.layer.{}"),
        *_weight_and_bias(f"{prefix}norm", "videomae.layernorm"),
    ]


PRETRAINING_TABLE = [
    *encoder_table("encoder."),
    *_blocks("decoder.blocks.{}", "decoder.decoder_layers.{}"),
    *_weight_and_bias("decoder.norm", "decoder.norm"),
    *_weight_and_bias("decoder.head", "decoder.head"),
    Rename("encoder_to_decoder.weight", "encoder_to_decoder.weight"),
    Rename("mask_token", "mask_token"),
]

CLASSIFIER_TABLE = [
    *encoder_table(""),
    *_weight_and_bias("fc_norm", "fc_norm"),
    *_weight_and_bias("head", "classifier"),
]


def is_pretraining(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether official weights are a pretraining network's, not a classifier's."""
    return "encoder.patch_embed.proj.weight" in state_dict


def infer_sizes(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a configuration's sizes off official weights.

    Heads are 64 wide in every published model and cannot be seen in the weights; frames, pixels, ratio and mask come
    from the training arguments where a file has them.

    Args:
        state_dict: official names to tensors.
        arguments: the training arguments stored beside them.

    Returns:
        Fields of `TubeletsVideoMAEConfig`.

    Raises:
        CheckpointLayoutError: if the weights are not of this family.
    """
    arguments = arguments or {}
    prefix = "encoder." if is_pretraining(state_dict) else ""
    if f"{prefix}patch_embed.proj.weight" not in state_dict:
        raise CheckpointLayoutError("there is no 'patch_embed.proj.weight'; is this another method's checkpoint?")
    embedding = state_dict[f"{prefix}patch_embed.proj.weight"]
    if embedding.ndim != 5:
        raise CheckpointLayoutError(
            f"{prefix}patch_embed.proj.weight has shape {tuple(embedding.shape)}, not a video model's five dimensions"
        )
    width, channels, tubelet, patch, _ = embedding.shape
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": _depth(state_dict, f"{prefix}blocks."),
        "num_attention_heads": max(width // 64, 1),
        "intermediate_size": state_dict[f"{prefix}blocks.0.mlp.fc1.weight"].shape[0],
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "num_frames": int(arguments.get("num_frames", 16)),
        "image_size": int(arguments.get("input_size", 224)),
    }
    if prefix:
        decoder_width = state_dict["encoder_to_decoder.weight"].shape[0]
        sizes |= {
            "decoder_hidden_size": decoder_width,
            "decoder_num_hidden_layers": _depth(state_dict, "decoder.blocks."),
            "decoder_num_attention_heads": max(decoder_width // 64, 1),
            "decoder_intermediate_size": state_dict["decoder.blocks.0.mlp.fc1.weight"].shape[0],
            "mask_ratio": float(arguments.get("mask_ratio", 0.9)),
        }
    else:
        sizes |= {"num_labels": state_dict["head.weight"].shape[0], "use_mean_pooling": True}
    return sizes


def _depth(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in state_dict if name.startswith(prefix)]
    if not numbers:
        raise CheckpointLayoutError(f"there is no weight {prefix}0; is this another method's checkpoint?")
    return 1 + max(numbers)


@dataclass(frozen=True)
class OfficialLayout:
    """How the official checkpoints of one method of the family become models of ours, and back.

    Attributes:
        config_class: configuration of the method.
        pretraining_class: its pretraining model.
        classifier_class: its classifier.
        infer_target: fields that say what the decoder predicts, from the state dict, the fields of `infer_sizes` and
            the training arguments.
        pretraining_table: names of a pretraining network.
    """

    config_class: type
    pretraining_class: type
    classifier_class: type
    infer_target: Callable[[Mapping[str, Tensor], Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    pretraining_table: Sequence[Rename] = tuple(PRETRAINING_TABLE)

    def infer_config(
        self, state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None, **overrides: Any
    ) -> Any:
        """Read the variant and the sizes off official weights.

        Args:
            state_dict: official names to tensors.
            arguments: training arguments stored beside them, which give what weights cannot show.
            **overrides: fields of the configuration that are known better.

        Returns:
            The configuration.

        Raises:
            CheckpointLayoutError: if the weights are not of this family.
        """
        arguments = arguments or {}
        try:
            fields = infer_sizes(state_dict, arguments)
            if is_pretraining(state_dict):
                fields |= self.infer_target(state_dict, fields, arguments)
        except (KeyError, IndexError, ValueError) as error:
            if isinstance(error, CheckpointLayoutError):
                raise
            raise CheckpointLayoutError(
                f"the sizes cannot be read off these weights ({error!r}); is this another method's checkpoint?"
            ) from error
        return self.config_class(**{**fields, **overrides})

    def from_official(
        self, state_dict: Mapping[str, Tensor], config: Any = None, arguments: Mapping[str, Any] | None = None
    ) -> Any:
        """Build our model from official weights, strictly: every weight is used and none is missing.

        Args:
            state_dict: official names to tensors, of a pretraining network or of a classifier.
            config: the configuration, or None to infer it.
            arguments: training arguments, for the inference.

        Returns:
            A pretraining model or a classifier.

        Raises:
            CheckpointLayoutError: if names or shapes do not fit.
        """
        pretraining = is_pretraining(state_dict)
        model_class = self.pretraining_class if pretraining else self.classifier_class
        model = model_class(config or self.infer_config(state_dict, arguments))
        weights = convert_to_ours(state_dict, self.pretraining_table if pretraining else CLASSIFIER_TABLE)
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise CheckpointLayoutError(f"the weights do not fit {model_class.__name__}: {error}") from error
        return model

    def to_official(self, model: Any) -> dict[str, Tensor]:
        """The official state dict of one of our models, with the names, shapes and values of the official code.

        Args:
            model: a pretraining model or a classifier.

        Returns:
            Official names to tensors.
        """
        pretraining = isinstance(model, self.pretraining_class)
        return convert_to_official(model.state_dict(), self.pretraining_table if pretraining else CLASSIFIER_TABLE)

    def load_official(self, path: str | Path, **overrides: Any) -> Any:
        """Read an official checkpoint file.

        Args:
            path: the `.pth` file.
            **overrides: fields of the configuration that the file cannot show, e.g. `id2label` or
                `num_attention_heads`.

        Returns:
            A pretraining model or a classifier with the file's weights.

        Raises:
            FileNotFoundError: if there is no such file.
            tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
            CheckpointLayoutError: if the weights are not this method's.
        """
        state_dict, arguments = read_checkpoint(path)
        return self.from_official(state_dict, self.infer_config(state_dict, arguments, **overrides))
