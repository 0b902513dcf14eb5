"""A tiny model and a batch for every registered type and Auto class; a new type adds its sizes to `FIELDS`.

`scripts/check_gpu.py` uses them too.
"""

import re
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from tubelets.data.modalities.specs import VideoSpec
from tubelets.models.common.auto import MODELS, pretraining_collator
from tubelets.models.common.auto_classes import auto_class_named

VIT = {
    "image_size": 32, "patch_size": 16, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 24, "mask_ratio": 0.5, "head_init_scale": 1.0,
}  # fmt: skip
AUDIO = {
    "max_length": 64, "num_mel_bins": 32, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 24, "mask_ratio": 0.5, "head_init_scale": 1.0,
    "mask_type": "random",
}  # fmt: skip
SKELETON = {"num_frames": 16, "min_crop_frames": 8}
GRU, GRAPH = {"hidden_size": 6, "num_layers": 2}, {"hidden_sizes": [8, 16]}
CNN = {"image_size": 32, "num_frames": 8}
RESNET = {"hidden_sizes": [8, 8, 8, 8], "stem_size": 4}
TOWER = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
# Layers that stochastic depth leaves out in a batch of two have no gradient.
FRAMES = {"image_size": 32, "num_hidden_layers": 4, "temporal_head_size": 16, "drop_path_rate": 0.0}
LOCOMOTION = {
    "video_config": TOWER | FRAMES | {"temporal_dropout": 0.0},
    "text_config": TOWER | {"tokenizer": "motion_words", "vocab_size": 560, "max_length": 24},
    "fusion_encoder_config": TOWER, "projection_size": 16, "objects": "shapes",
}  # fmt: skip
WORDS = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
WORDS |= {"intermediate_size": 24, "max_position_embeddings": 16}

FIELDS: dict[str, dict[str, Any]] = {
    "tubelets_videomae": VIT,
    "sigma": VIT | {"num_prototypes": 6, "projection_hidden_sizes": (20,), "projection_size": 12},
    "smile": VIT | {"target_type": "pixel", "objects": "shapes"},
    "structured_noise_video": VIT | {"mask_options": {"bank_size": 1, "volume_shape": (2, 4, 4)}},
    "structured_noise_audio": AUDIO | {"decoder_window_size": (2, 2), "decoder_window_shift": (1, 0)},
    "structured_noise_audio_video": AUDIO | {"image_size": 32, "video_mask_type": "random", "video_mask_ratio": 0.5},
    "agcn": {"num_frames": 16, **GRAPH},
    "bigru": {"num_frames": 16, **GRU},
    "hcn": {"num_frames": 16, "width": 4},
    "stgcn": {"num_frames": 16, **GRAPH},
    "skeleton_contrast": SKELETON
    | {
        "sequence_options": GRU,
        "graph_options": GRAPH,
        "projection_size": 8,
        "queue_size": 8,
    },
    "i3d": {"image_size": 64, "num_frames": 16, "width_multiplier": 0.1},
    "r2plus1d_native": CNN | {"hidden_sizes": [8, 8, 8, 8]},
    "resnet3d": CNN | RESNET,
    "resnext3d": CNN | {"hidden_sizes": [4, 8], "depths": [1, 2], "stem_size": 4, "cardinality": 2},
    "video_text_dual_encoder": {
        "video_tower": CNN | RESNET | {"model_type": "resnet3d", "num_frames": 4},
        "text_tower": WORDS,
        "num_segments": 2,
        "pooling": "temporal",
        "temporal_heads": 2,
        "projection_dim": 12,
        "max_length": 6,
    },
    "tubelet_contrast": CNN | {"backbone_options": RESNET, "projection_size": 8, "queue_size": 8},
    "locomotion": LOCOMOTION,
}
BATCH, LABELS = 2, 5

# Parameters that a forward with every input leaves alone, by pattern of their names.
UNUSED = {
    # CAV-MAE's shared blocks have norms for passes of one modality, next to those of a pass of both.
    "structured_noise_audio_video": r"(.*shared_layers\.\d+\.layernorm_\w+_(audio|video)|.*(audio|video)_norm)\..*",
    # The encoder of frames alone: LocoMotion's other towers meet texts.
    "locomotion": r"(text_model|fusion_model|video_projection|text_projection|video_model\.pooler)\..*|temperature",
}

# Model type and Auto class; a class that serves two of them is tried once.
CASES = [
    (model_type, auto_class)
    for model_type, entry in MODELS.items()
    for auto_class, reference in entry.models.items()
    if auto_class == next(name for name, other in entry.models.items() if other == reference)
]


def is_unused(model_type: str, auto_class: str, name: str) -> bool:
    """Whether a parameter is one of `UNUSED`; pretraining passes every modality alone too."""
    pattern = UNUSED.get(model_type)
    return pattern is not None and auto_class != "AutoModelForPreTraining" and bool(re.fullmatch(pattern, name))


def tiny_config(model_type: str, **changes: Any) -> Any:
    assert model_type in FIELDS, f"{model_type} has no tiny sizes: add them to FIELDS of {__file__}"
    return AutoConfig.for_model(model_type, **{**FIELDS[model_type], "num_labels": LABELS, **changes})


def tiny_model(model_type: str, auto_class: str, seed: int = 0) -> Any:
    """A model in evaluation mode whose parameters all differ from their initial values."""
    torch.manual_seed(seed)
    model = auto_class_named(auto_class).from_config(tiny_config(model_type))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def items_of(config: Any) -> list[dict[str, Any]]:
    """Items as a clip stream yields them, for the pretraining collator."""
    generator = torch.Generator().manual_seed(1)
    specs = config.pretraining_specs
    clips = max(spec.clips_per_sample if isinstance(spec, VideoSpec) else 1 for spec in specs.values())
    items: list[dict[str, Any]] = []
    for number in range(BATCH * clips):
        item: dict[str, Any] = {"seed": number}
        for name, spec in specs.items():
            if isinstance(spec, VideoSpec):
                item[name] = torch.randint(256, spec.shape, dtype=torch.uint8, generator=generator)
            else:
                item[name] = spec.example(1, generator)[0]
        items.append(item)
    return items


def batch_of(model: Any, auto_class: str) -> dict[str, Any]:
    """The arguments of a model's forward: of its pretraining collator, or examples of its input specs."""
    if auto_class == "AutoModelForPreTraining":
        return pretraining_collator(model.config)(items_of(model.config))
    generator = torch.Generator().manual_seed(1)
    retrieves = auto_class == "AutoModelForVideoTextRetrieval"
    specs = model.config.retrieval_specs if retrieves else model.config.input_specs
    batch = {name: spec.example(BATCH, generator) for name, spec in specs.items()}
    if retrieves and model.config.model_type == "locomotion":
        # Otherwise partners for matching are drawn from the global generator.
        batch["negative_draws"] = torch.rand(BATCH, 2, generator=generator)
    if "Classification" in auto_class:
        batch["labels"] = torch.tensor([0, LABELS - 1])
    return batch


def outputs_of(output: Any) -> dict[str, Tensor]:
    return {name: value for name, value in output.items() if isinstance(value, Tensor)}


def loss_of(output: Any) -> Tensor:
    """The loss of a head; of an encoder, a function of its pooled feature and of its tokens."""
    if "loss" in output:
        return output["loss"]
    return sum(output[name].float().sin().mean() for name in ("pooler_output", "last_hidden_state"))
