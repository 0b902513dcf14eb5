"""Join a video encoder and a text encoder to a model of videos and texts, which `tubelets finetune` trains.

VIDEO is a folder or Hub id of a video model, or of an image encoder that then sees single frames; TEXT one of a text
encoder. Either can be open_clip:ARCHITECTURE/WEIGHTS. With --image_text, VIDEO is an image-text model (open_clip, CLIP
or SigLIP) that averages frames and needs no training. stand_in:minilm_l6_v2 is a small text encoder that needs no Hub.

Examples:
  tubelets join runs/sigma/final sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/joined
  tubelets join runs/mine/final stand_in:minilm_l6_v2 --output_dir runs/joined --num_segments 4 --pooling temporal
  tubelets join open_clip:ViT-B-32-quickgelu/openai --image_text --output_dir runs/frames --num_segments 8
"""

import argparse
from pathlib import Path

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("video", metavar="VIDEO", help="video model, image encoder, or with --image_text an image-text model")
    verb.add("text", metavar="TEXT", nargs="?", help="text encoder; left out with --image_text")
    verb.add("--output_dir", type=Path, required=True, help="new folder for the model and its processor")
    verb.add("--image_text", action="store_true", help="VIDEO has both sides; its projections are kept")
    verb.add("--num_segments", type=int, help="clips or frames of a video; by default 1, with --image_text 8")
    verb.add("--pooling", choices=["mean", "temporal"], default="mean", help="of clips or frames to a video")
    verb.add("--loss_type", choices=["softmax", "sigmoid"], help="loss of pairs; by default softmax")
    verb.add("--projection_dim", type=int, help="width of the common space; by default 512")
    verb.add("--max_length", type=int, help="tokens of a text; by default 32")
    verb.add("--freeze_video", action="store_true", help="do not train the video side")
    verb.add("--freeze_text", action="store_true", help="do not train the text side")
    verb.add("--seed", type=int, default=0, help="seed of projections and temporal pooling")


def run(options: argparse.Namespace) -> int:
    """Join.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    import torch

    from tubelets.models.common.auto import inference_processor
    from tubelets.models.heads.video_text.modeling_video_text import VideoTextDualEncoderModel

    if (options.text is None) != options.image_text:
        raise ValueError("give VIDEO and TEXT, or one image-text model with --image_text")
    if options.output_dir.exists() and any(options.output_dir.iterdir()):
        raise FileExistsError(f"{options.output_dir} exists and is not empty; choose a new folder")
    names = ("num_segments", "loss_type", "projection_dim", "max_length")
    fields = {name: vars(options)[name] for name in names if vars(options)[name] is not None}
    fields |= {name: vars(options)[name] for name in ("pooling", "freeze_video", "freeze_text")}
    torch.manual_seed(options.seed)
    if options.image_text:
        model = VideoTextDualEncoderModel.from_image_text_pretrained(options.video, **fields)
    else:
        model = VideoTextDualEncoderModel.from_video_text_pretrained(options.video, options.text, **fields)
    processor = inference_processor(model.config)
    if not is_hub_id(model.config.tokenizer):
        # The processor holds the tokenizer; a folder of this machine has no place in a checkpoint.
        model.config.tokenizer = None
    model.save_pretrained(options.output_dir)
    processor.save_pretrained(options.output_dir)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    shape = model.config.input_specs["pixel_values"].shape
    print(
        f"wrote {options.output_dir}: {millions:.4g} M parameters, videos of {shape[0]} frames, {shape[2]} x {shape[3]}"
    )
    return 0


def is_hub_id(name: str | None) -> bool:
    """Whether a tokenizer is found by its name on any machine.

    Example:
        >>> is_hub_id("google-bert/bert-base-uncased"), is_hub_id("/data/bert"), is_hub_id("open_clip:local-dir:/x")
        (True, False, False)
    """
    return name is not None and "local-dir:" not in name and not Path(name).is_absolute() and not Path(name).exists()
