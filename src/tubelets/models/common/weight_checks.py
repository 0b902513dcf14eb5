"""What must fit between a model and its checkpoint: weights by name and shape, fields that shapes do not show."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from transformers import PreTrainedConfig, PreTrainedModel

from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.file_checks import read_json

Fresh = Literal["nothing", "absent head", "head"]
"""Which weights may start with random values: none; those of heads that the checkpoint lacks; those of heads."""

# Fields and properties that weights of the same shapes do not show.
HIDDEN = ("num_attention_heads", "hidden_act", "token_order", "audio_grid")
# Parts of an encoder that classifiers drop, and that features do not need.
OPTIONAL = ("layernorm.", "pooler.")
# Buffers that some versions of a library save and others compute.
COMPUTED = ("position_ids", "num_batches_tracked", "relative_position_index")
# Names listed in a message.
LISTED = 3


def check_weights(
    where: Any, model: PreTrainedModel, report: Mapping[str, Any], *, fresh: Fresh, resizes: bool = False
) -> None:
    """Refuse a model whose weights were not in its checkpoint, or in another shape, or that lacks some of it.

    Weights of the checkpoint that belong to no part of the encoder, such as those of another head, may be left over.

    Args:
        where: named in errors.
        model: the loaded model.
        report: what `from_pretrained(output_loading_info=True, ignore_mismatched_sizes=True)` reports.
        fresh: which weights may have started with random values.
        resizes: accept other shapes of heads too.

    Raises:
        CheckpointLayoutError: naming the first of the weights.
    """
    shapes = {entry[0]: entry for entry in report["mismatched_keys"]}
    encoder = _encoder_names(model)
    missing = set(report["missing_keys"]) - shapes.keys()
    name = type(model).__name__
    if encoder and encoder <= missing | shapes.keys():
        raise CheckpointLayoutError(
            f"{where} holds no weight of a {type(model.base_model).__name__} ({len(encoder)} are needed, for example "
            f"{min(encoder)}); is this another method's checkpoint?"
        )
    required = encoder if fresh != "nothing" else {each for each in model.state_dict() if not each.endswith(COMPUTED)}
    if refused := [shapes[each] for each in sorted(shapes) if each in encoder | required or not resizes]:
        raise CheckpointLayoutError(_describe_mismatch(where, model, refused, encoder))
    if lost := sorted(missing & required):
        raise CheckpointLayoutError(
            f"{where} lacks {len(lost)} weights of a {name}: {_listed(lost)}; is this another method's or size's "
            "checkpoint?"
        )
    if left := sorted(each for each in report["unexpected_keys"] if _is_of_encoder(each, model)):
        raise CheckpointLayoutError(
            f"{where} has {len(left)} weights that a {name} of this configuration does not: {_listed(left)}; load it "
            "with its own configuration, or is this another method's or size's checkpoint?"
        )


def _encoder_names(model: PreTrainedModel) -> set[str]:
    encoder, prefix = model.base_model, _prefix(model)
    return {
        prefix + name for name in encoder.state_dict() if not name.startswith("pooler.") and not name.endswith(COMPUTED)
    }


def _prefix(model: PreTrainedModel) -> str:
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _is_of_encoder(name: str, model: PreTrainedModel) -> bool:
    """Whether a weight of a checkpoint belongs to the encoder, whose name a head may put in front or not."""
    inside = name.removeprefix(f"{model.base_model_prefix}.")
    parts = {each.partition(".")[0] for each in model.base_model.state_dict()}
    belongs = inside != name or inside.partition(".")[0] in parts
    return belongs and not inside.startswith(OPTIONAL) and not inside.endswith(COMPUTED)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _describe_mismatch(
    where: Any, model: PreTrainedModel, mismatched: Sequence[tuple[str, Any, Any]], encoder: set[str]
) -> str:
    name, found, needed = mismatched[0]
    shapes = f"{name} has shape {tuple(found)} in {where} and {tuple(needed)} in the model"
    if all(entry[0].startswith("classifier.") for entry in mismatched):
        return (
            f"{shapes}: the checkpoint has {found[0]} labels and the configuration {model.config.num_labels}; leave "
            "num_labels and id2label to the checkpoint, or pass ignore_mismatched_sizes=True for a new head"
        )
    shapes = f"{shapes} ({len(mismatched)} such weights)"
    if any(entry[0] in encoder for entry in mismatched):
        return f"{shapes}; is this a checkpoint of another method or size?"
    return (
        f"{shapes}; is this a checkpoint of another method or size? ignore_mismatched_sizes=True starts these weights "
        "from random values"
    )


def stored_config(config: PreTrainedConfig, path: str | None) -> Any:
    """The configuration that was saved with weights, read as a model's own type.

    Args:
        config: the model's configuration.
        path: the `config.json` beside the weights, None if there is none.

    Returns:
        The configuration; None if there is none, or its model type is one that the model's does not read.
    """
    if path is None:
        return None
    content = read_json(path)
    known = config.accepted_model_types() if isinstance(config, RegisteredConfig) else {config.model_type}
    return type(config).from_dict(content) if content.get("model_type") in known else None


def check_hidden_fields(where: Any, config: Any, stored: Any) -> None:
    """Refuse a configuration under which weights of the same shapes compute something else.

    Args:
        where: named in errors.
        config: the configuration of the loaded model.
        stored: the one that was saved with the weights.

    Raises:
        CheckpointLayoutError: naming the field.
    """
    for name in HIDDEN:
        found, wanted = (getattr(each, name, None) for each in (stored, config))
        # Spectrograms of another length are seen in the shape of the table of positions.
        if name == "audio_grid" and found is not None and found[0] * found[1] != wanted[0] * wanted[1]:
            continue
        if found != wanted:
            raise CheckpointLayoutError(
                f"{where} was saved with {name}={found!r} and is loaded with {wanted!r}: the weights fit and mean "
                "something else; leave the field to the checkpoint"
            )
    if config.model_type == "videomae" and (found := _rows_columns(stored)) != (wanted := _rows_columns(config)):
        raise CheckpointLayoutError(
            f"{where} was saved for {found[0]} x {found[1]} patches and is loaded for {wanted[0]} x {wanted[1]}: the "
            "VideoMAE of transformers gives patches the positions of others then; load the folder with "
            "TubeletsVideoMAEForVideoClassification or TubeletsVideoMAEModel, which interpolate positions"
        )


def _rows_columns(config: Any) -> tuple[int, int]:
    sides = zip(_pair(config.image_size), _pair(config.patch_size), strict=True)
    rows, columns = (side // patch for side, patch in sides)
    return rows, columns


def _pair(side: Any) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else tuple(side)  # type: ignore[return-value]
