"""LocoMotion's inference processor: clips and texts to the inputs of its models (locomotion.md, section 3.5)."""

from collections.abc import Sequence
from typing import Any

from transformers import BatchFeature, VideoMAEVideoProcessor
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ProcessorMixin

from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.words_locomotion import clean_text, open_tokenizer


class LocoMotionProcessor(ProcessorMixin):
    """Videos and texts to the inputs of LocoMotion, with a video processor and a tokenizer.

    Args:
        video_processor: resizes and normalises frames.
        tokenizer: of the text tower; texts are cut at its `model_max_length`.
    """

    def __init__(self, video_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(video_processor, tokenizer, **kwargs)

    def __call__(  # type: ignore[override]
        self,
        videos: Any = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Process videos, texts, or both.

        Args:
            videos: a video `(frames, channels, height, width)`, or a list of them.
            text: a text, or a list of them; punctuation is removed as in training.
            return_tensors: `pt` for tensors.
            **kwargs: passed to the video processor.

        Returns:
            `pixel_values`, `input_ids` and `attention_mask` of what is given. Texts are padded to the longest.

        Raises:
            ValueError: if neither is given.
        """
        if videos is None and text is None:
            raise ValueError("videos and text are both None; give videos, texts, or both")
        batch: dict[str, Any] = {}
        if videos is not None:
            seen = self.video_processor(videos, return_tensors=return_tensors, **kwargs)
            batch["pixel_values"] = seen["pixel_values_videos" if "pixel_values_videos" in seen else "pixel_values"]
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            words = self.tokenizer(
                [clean_text(each) for each in texts], padding=True, truncation=True, return_tensors=return_tensors
            )
            batch |= {name: words[name] for name in ("input_ids", "attention_mask")}
        return BatchFeature(batch)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the returned tensors."""
        return ["pixel_values", "input_ids", "attention_mask"]


def locomotion_processor(config: LocoMotionConfig) -> LocoMotionProcessor:
    """The inference processor of a configuration.

    Args:
        config: sizes, statistics and the tokenizer's name.

    Returns:
        A processor whose `pixel_values` are float `(B, frames, channels, height, width)`.

    Raises:
        ValueError: if the tokenizer has more words than the model.
        OSError: if the tokenizer is not found.

    Example:
        >>> text = {"tokenizer": "motion_words", "vocab_size": 1024}
        >>> processor = locomotion_processor(LocoMotionConfig(video_config={"image_size": 32}, text_config=text))
        >>> clip = torch.zeros(4, 3, 48, 64, dtype=torch.uint8)
        >>> inputs = processor(clip, "A bear glides to the left.", return_tensors="pt")
        >>> inputs["pixel_values"].shape, inputs["input_ids"].shape
        (torch.Size([1, 4, 3, 32, 32]), torch.Size([1, 8]))
    """
    video: Any = config.video_config
    height, width = config.image_height_width
    # The base frameworks stretch frames to the model's size.
    video_processor = VideoMAEVideoProcessor(
        size={"height": height, "width": width},
        do_center_crop=False,
        resample=PILImageResampling.BICUBIC,
        image_mean=list(video.image_mean),
        image_std=list(video.image_std),
    )
    return LocoMotionProcessor(video_processor, model_tokenizer(config))


def model_tokenizer(config: LocoMotionConfig) -> Any:
    """The tokenizer of a configuration, which cuts texts at its `max_length`.

    Args:
        config: the tokenizer's name, the size of the table of words, and the longest text.

    Returns:
        A tokenizer of transformers.

    Raises:
        ValueError: if it has more words than the table, or another padding.
        OSError: if it is not found.
    """
    text: Any = config.text_config
    tokenizer = open_tokenizer(text.tokenizer)
    if len(tokenizer) > text.vocab_size or tokenizer.pad_token_id != text.pad_token_id:
        raise ValueError(
            f"tokenizer {text.tokenizer!r} has {len(tokenizer)} words and padding {tokenizer.pad_token_id}, expected "
            f"at most vocab_size={text.vocab_size} and pad_token_id={text.pad_token_id}; change text_config"
        )
    tokenizer.model_max_length = text.max_length
    return tokenizer
