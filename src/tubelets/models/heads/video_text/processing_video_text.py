"""Inputs of dual encoders: frames and captions, for inference and in training batches."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, CLIPTokenizer, VideoMAEVideoProcessor
from transformers.processing_utils import ProcessorMixin

from tubelets.models.common.safe_loading import load_processor
from tubelets.models.heads.video_text.configuration_video_text import OPEN_CLIP, VideoTextDualEncoderConfig


class VideoTextProcessor(ProcessorMixin):
    """Videos and texts to the inputs of a dual encoder.

    Args:
        video_processor: resizes, crops and normalises frames.
        tokenizer: of transformers.
        max_length: tokens of a text; longer ones are cut, shorter ones padded.
    """

    def __init__(self, video_processor: Any = None, tokenizer: Any = None, max_length: int = 32, **kwargs: Any) -> None:
        super().__init__(video_processor, tokenizer, **kwargs)
        self.max_length = max_length

    def __call__(  # type: ignore[override]
        self, videos: Any = None, text: Any = None, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Process videos, texts, or both.

        Args:
            videos: a video `(frames, channels, height, width)` with the model's number of frames, or a list of them.
            text: a text, or a list of them.
            return_tensors: `pt` for tensors.
            **kwargs: passed to the video processor.

        Returns:
            `pixel_values`; `input_ids` and `attention_mask`.

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
            words = [text] if isinstance(text, str) else list(text)
            batch |= tokenized(self.tokenizer, words, self.max_length, return_tensors)
        return BatchFeature(batch)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the returned tensors."""
        return ["pixel_values", "input_ids", "attention_mask"]


def tokenized(
    tokenizer: Any, texts: Sequence[str], max_length: int, return_tensors: str | None = "pt"
) -> dict[str, Any]:
    """Ids and mask of texts, cut or padded to a length.

    Args:
        tokenizer: of transformers.
        texts: the texts.
        max_length: tokens of each.
        return_tensors: `pt` for tensors.

    Returns:
        `input_ids` and `attention_mask`, `(texts, max_length)`.
    """
    found = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
        return_tensors=return_tensors,
    )
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def text_tokenizer(config: VideoTextDualEncoderConfig) -> Any:
    """The tokenizer that a configuration names.

    Args:
        config: its `tokenizer` is a Hub id, a folder, or `open_clip:NAME` for CLIP's vocabulary, which open_clip holds.

    Returns:
        A tokenizer of transformers.

    Raises:
        ValueError: if the configuration names none.
        OSError: if it is not found.

    Example:
        >>> tokenizer = text_tokenizer(VideoTextDualEncoderConfig(tokenizer="open_clip:ViT-B-32/openai"))
        >>> tokenizer("a bird").input_ids
        [49406, 320, 3329, 49407]
    """
    if config.tokenizer is None:
        raise ValueError(
            "the configuration names no tokenizer; set `tokenizer` to the Hub id or folder of the text side's, or "
            "build VideoTextProcessor(video_processor, tokenizer) yourself"
        )
    if config.tokenizer.startswith(f"{OPEN_CLIP}:"):
        return _open_clip_tokenizer(config)
    return load_processor(config.tokenizer, AutoTokenizer)


def _open_clip_tokenizer(config: VideoTextDualEncoderConfig) -> Any:
    """CLIP's byte pairs as a tokenizer of transformers."""
    import open_clip

    other = ((config.text_tower or {}).get("text_cfg") or {}).get("hf_tokenizer_name")
    if other:
        return load_processor(other, AutoTokenizer)
    pairs = open_clip.SimpleTokenizer()
    # Padding with the last token changes nothing: the first one is read, and tokens do not see later ones.
    first, last = pairs.all_special_ids[0], pairs.all_special_ids[1]
    names = {number: token for token, number in pairs.encoder.items()}
    return CLIPTokenizer(
        vocab=dict(pairs.encoder),
        merges=[tuple(pair) for pair in pairs.bpe_ranks],
        unk_token=names[last],
        bos_token=names[first],
        eos_token=names[last],
        pad_token=names[last],
    )


def video_text_processor(config: VideoTextDualEncoderConfig) -> VideoTextProcessor:
    """The inference processor of a dual encoder.

    Args:
        config: size and statistics of the frames, and the tokenizer.

    Returns:
        A processor whose `pixel_values` are float `(B, frames, channels, height, width)`.

    Raises:
        ValueError: if the configuration names no tokenizer.
    """
    return VideoTextProcessor(frame_processor(config), text_tokenizer(config), max_length=config.max_length)


def frame_processor(config: VideoTextDualEncoderConfig) -> VideoMAEVideoProcessor:
    """The part of the processor that prepares frames; see `video_text_processor`."""
    height, width = config.input_specs["pixel_values"].shape[-2:]
    return VideoMAEVideoProcessor(
        size={"shortest_edge": height} if height == width else {"height": height, "width": width},
        crop_size={"height": height, "width": width},
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )


def caption_key(caption: str) -> str:
    """What equal captions have in common: case and spaces do not count.

    Example:
        >>> caption_key(" A  bird ")
        'a bird'
    """
    return " ".join(caption.lower().split())


def caption_numbers(captions: Sequence[Any]) -> Tensor:
    """A number for each caption, the same for equal ones in any process, shard or run.

    Args:
        captions: texts, or the ids of their tokens.

    Returns:
        int64 `(captions,)`.

    Example:
        >>> first, second, third = caption_numbers(["A bird", "a  bird", "a cat"]).tolist()
        >>> first == second != third
        True
    """
    keys = [caption_key(caption) if isinstance(caption, str) else str(caption) for caption in captions]
    # 63 bits: two of a million captions share a number by chance once in ten million data sets.
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return torch.tensor([int.from_bytes(digest, "big") >> 1 for digest in digests], dtype=torch.long)


class VideoTextCollator:
    """Collates items of a clip stream into batches for the contrast of videos and captions.

    Of several captions of a video, one is drawn from the clip's own seed.

    Args:
        config: length of texts, and the tokenizer.

    Example:
        >>> collate = VideoTextCollator(VideoTextDualEncoderConfig(max_length=4))
        >>> item = {"pixel_values": torch.zeros(16, 3, 8, 8, dtype=torch.uint8), "seed": 1}
        >>> batch = collate([item | {"input_ids": torch.tensor([5, 6, 7, 8])}] * 2)
        >>> batch["caption_ids"][0] == batch["caption_ids"][1]
        tensor(True)
    """

    def __init__(self, config: VideoTextDualEncoderConfig) -> None:
        self.max_length = config.max_length
        self.tokenizer = None if config.tokenizer is None else text_tokenizer(config)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips and tokenise captions.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, channels, height, width)`; `seed`, an integer; and
                `captions`, a list, `caption`, or token ids `(max_length,)` as `input_ids`.

        Returns:
            `pixel_values` uint8 `(B, frames, channels, height, width)`, `input_ids` and `attention_mask` `(B,
            max_length)`, `caption_ids` `(B,)`, equal for equal captions, and `return_loss`: the arguments of a dual
            encoder.

        Raises:
            ValueError: if a clip has no caption, or there is no tokenizer.
        """
        batch: dict[str, Any] = {"pixel_values": torch.stack([item["pixel_values"] for item in items])}
        if "input_ids" in items[0]:
            ids = torch.stack([item["input_ids"] for item in items])
            given = [row.tolist() for row in ids]
            batch |= {"input_ids": ids, "attention_mask": torch.ones_like(ids), "caption_ids": caption_numbers(given)}
        else:
            captions = [drawn_caption(item) for item in items]
            if self.tokenizer is None:
                raise ValueError("captions need a tokenizer; set `tokenizer` in the model's configuration")
            batch |= tokenized(self.tokenizer, captions, self.max_length)
            batch["caption_ids"] = caption_numbers(captions)
        return {**batch, "return_loss": True}


def drawn_caption(item: Mapping[str, Any]) -> str:
    """The caption of an item; of several, one drawn from the item's seed.

    Raises:
        ValueError: if it has none.

    Example:
        >>> drawn_caption({"captions": ["a", "b", "c"], "seed": 2, "clip_id": "x"}) in "abc"
        True
    """
    several = item.get("captions")
    if several:
        generator = torch.Generator().manual_seed(int(item["seed"]))
        return str(several[int(torch.randint(len(several), (), generator=generator))])
    if item.get("caption") is None:
        raise ValueError(
            f"clip {item.get('clip_id')} has no caption; give the data a column `caption`, or `captions` with a list"
        )
    return str(item["caption"])
