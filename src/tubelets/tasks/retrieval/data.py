"""Videos with captions for models that embed both."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

from tubelets.data.modalities.specs import TextSpec, VideoSpec, specs_of
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.source import Source
from tubelets.data.sources.subsets import FractionSource
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.augmentations import ColorJitter
from tubelets.data.transforms.spatial import (
    CenterCrop,
    Compose,
    HorizontalFlip,
    RandomResizedCrop,
    ShortSideResize,
    normalize,
)
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.video_text import PairScorer, as_video_text, embed_texts
from tubelets.tasks.loading import ClipLoading
from tubelets.tasks.parts import address_of
from tubelets.tasks.retrieval.arguments import RetrievalDataArguments
from tubelets.tasks.retrieval.batches import RetrievalCollator
from tubelets.tasks.retrieval.scores import RetrievalScores, paired
from tubelets.tasks.task import Part, TaskData


def video_and_text(config: PreTrainedConfig) -> tuple[str, VideoSpec]:
    """The argument of a model for its clip, and the clip.

    Args:
        config: of a model that embeds videos and texts.

    Raises:
        ValueError: if the model has other inputs than one clip and one text, or its frames are not square.
    """
    inputs = config.retrieval_specs if isinstance(config, RegisteredConfig) else model_inputs(config)
    clips = specs_of(inputs, VideoSpec)
    if len(inputs) != 2 or len(clips) != 1 or len(specs_of(inputs, TextSpec)) != 1:
        raise ValueError(f"retrieval needs a clip and a text, and {config.model_type!r} expects {', '.join(inputs)}")
    (clip,) = clips
    if clip.size[0] != clip.size[1]:
        raise ValueError(f"frames of {clip.size[0]} x {clip.size[1]} pixels are not square; choose a square model")
    return next(name for name, spec in inputs.items() if spec is clip), clip


class RetrievalData(ClipLoading, TaskData):
    """The videos and captions of one run; see `TaskData`.

    Raises:
        FileNotFoundError: if a part of the data is not found.
        ValueError: if a part is missing or empty, or has no captions.
    """

    data: RetrievalDataArguments

    def __init__(
        self,
        data: RetrievalDataArguments,
        args: TrainingArguments,
        token: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.data, self.args, self._token = data, args, token
        self.train_source: Source | None = None
        if args.do_train:
            self.train_source = self._open("train")
            if data.fraction < 1:
                self.train_source = FractionSource(self.train_source, data.fraction, data.fraction_seed)
        validates = args.do_eval or args.eval_strategy != "no"
        self.validation_source = self._open("validation") if validates else None
        # The final test is opened before the training, so that a missing split does not end a run of days.
        self.test_source = self._open_test() if args.do_eval else None
        if self.train_source is None and self.validation_source is None:
            raise ValueError("nothing to do; give --do_train, --do_eval or both")

    def _open(self, part: Part) -> Source:
        where, split = address_of(self.data, part, self._token)
        source = open_source(where, split, self.data.dataset_config_name, token=self._token)
        if not {"caption", "captions"} & set(source.annotations):
            raise ValueError(
                f"{where} has no captions; give it a column `caption`, or `captions` with a list for each video"
            )
        if source.num_samples == 0:
            raise ValueError(f"split {split or part!r} of {where} is empty; build its shards again or name another")
        return source

    def _open_test(self) -> Source | None:
        """The test part; its split is noted in the arguments, since the card names it."""
        data, args = self.data, self.args
        tested, chosen_on = address_of(data, "test", self._token), address_of(data, "validation", self._token)
        if data.dataset_name is not None:
            data.test_split = tested[1]
        if tested != chosen_on:
            return self._open("test")
        if args.do_train and args.load_best_model_at_end:
            warnings.warn(
                f"the checkpoint is chosen by its score on {tested[1] or 'the videos'} of {tested[0]}, which is also "
                "reported as the test; give a test split (test_split or test_dir) for a fair number",
                stacklevel=2,
            )
        return self.validation_source

    @property
    def config_fields(self) -> dict[str, Any]:
        """None: captions are not numbered."""
        return {}

    @property
    def primary_metric(self) -> str:
        """Recall at 1 of videos for texts."""
        return "text_to_video_r1"

    @property
    def samples_per_epoch(self) -> int:
        """Training videos per epoch; a share of them counts as at least `least_steps` of the whole.

        Raises:
            ValueError: if neither the arguments nor the data state their number.
        """
        own, source = super().samples_per_epoch, self.train_source
        if self.data.samples_per_epoch or not isinstance(source, FractionSource) or source.num_of_whole is None:
            return own
        return max(own, round(self.data.least_steps * source.num_of_whole))

    def bind(self, config: PreTrainedConfig, processor: Any) -> None:
        """Fit the loaders to a model's clips and words; the processor's mean and deviation are those of its weights."""
        self.input_name, spec = video_and_text(config)
        frames = processor.video_processor
        self.frames = replace(spec, mean=tuple(frames.image_mean), std=tuple(frames.image_std))
        self.processor = processor

    @property
    def pipeline_tag(self) -> str:
        """Video-text retrieval, a tag of this package."""
        return "video-text-retrieval"

    def train_loader(self) -> ClipLoader:
        """This process's endless stream of training batches."""
        data, spec = self.data, self.frames
        crop = RandomResizedCrop(spec.size[0], (data.crop_scale[0], data.crop_scale[1]))
        colours = () if data.color_jitter is None else (ColorJitter(*data.color_jitter),)
        transform = Compose((crop, HorizontalFlip(data.horizontal_flip), *colours))
        clips = ClipSpec(spec.num_frames, data.stride, 1, data.train_sampling)
        return self._train_loader(clips, transform, RetrievalCollator(spec, self.processor, training=True))

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A training batch on the device: the model's arguments, with which it computes its loss."""
        device = self.args.device
        words = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "caption_ids")}
        return {self.input_name: self._pixels(batch), **words, "return_loss": True}

    def _pixels(self, batch: Mapping[str, Any]) -> Tensor:
        clips = batch["pixel_values"].to(self.args.device, non_blocking=True)
        return normalize(clips, self.frames.mean, self.frames.std)

    @torch.no_grad()
    def score(self, model: PreTrainedModel, part: Part) -> RetrievalScores:
        """Embed the videos and the different captions of the validation or test part; all processes call it."""
        source = self.test_source if part == "test" else self.validation_source
        if source is None:
            raise ValueError("no validation videos; give --do_eval or an eval_strategy")
        was_training = model.training
        model.eval()
        views = self.data.test_clips if part == "test" else 1
        loader = self._test_loader(
            source,
            ClipSpec(self.frames.num_frames, self.data.stride, views, self.data.test_sampling),
            Compose((ShortSideResize(self.frames.size[0]), CenterCrop(self.frames.size[0]))),
            RetrievalCollator(self.frames, self.processor, training=False),
            views=views,
        )
        videos = self._embed_videos(model, loader)
        if not videos:
            raise ValueError("no video was scored: the split is empty, or none of its videos could be read")
        texts, pairs = paired([video.captions for video in videos])
        text = embed_texts(model, self.processor, texts, self.args.per_device_eval_batch_size)
        scores = RetrievalScores(
            clip_ids=[video.clip_id for video in videos],
            captions=texts,
            pairs=pairs,
            video=torch.stack([video.embedding for video in videos]),
            text=text,
            num_views=views,
            num_skipped=sum(gather_object([loader.num_skipped])),
            temperature=self.data.dual_softmax,
            matching=self._matching(model, videos, texts),
            top_k=self.data.rerank or 1,
        )
        if scores.matching is not None:
            _ = scores.ranks, scores.similarity_ranks  # while the model is in evaluation mode
        model.train(was_training)
        return scores

    def _embed_videos(self, model: PreTrainedModel, loader: ClipLoader) -> list["_Video"]:
        """The embedded videos of all processes, sorted by id."""
        network = as_video_text(model)
        matches = isinstance(model, PairScorer) and self.data.rerank is not None
        videos: dict[str, _Video] = {}
        for batch in loader:
            pixels = self._pixels(batch)
            features = network.get_video_features(pixels).float().cpu()
            inputs = network.get_match_inputs(pixels).to("cpu", torch.float16) if matches else [None] * len(features)
            rows = zip(batch["clip_ids"], batch["captions"], features, inputs, strict=True)
            for clip_id, captions, embedding, match in rows:
                if clip_id in videos:
                    videos[clip_id].add(embedding)
                else:
                    videos[clip_id] = _Video(clip_id, captions, embedding, match)
        gathered = sorted(gather_object(list(videos.values())), key=lambda video: video.clip_id)
        counts = sorted({video.num_views for video in gathered})
        if len(counts) > 1 or len({video.clip_id for video in gathered}) < len(gathered):
            raise ValueError(
                f"videos were scored with {counts} views; every video must be read once, by one process, with equal "
                "ids for its own clips only"
            )
        return gathered

    def _matching(self, model: PreTrainedModel, videos: Sequence["_Video"], texts: Sequence[str]) -> Any:
        """The model's scores of pairs by index, None if it has none."""
        if not isinstance(model, PairScorer) or self.data.rerank is None:
            return None
        words = self.processor(text=list(texts), return_tensors="pt")
        device = self.args.device
        dtype, scorer = next(model.parameters()).dtype, cast(PairScorer, model)

        @torch.no_grad()
        def score(video: Tensor, text: Tensor) -> Tensor:
            inputs = torch.stack([videos[number].match for number in video.tolist()]).to(device, dtype)  # type: ignore[misc]
            return scorer.score_pairs(
                inputs, *(words[name][text].to(device) for name in ("input_ids", "attention_mask"))
            )

        return score


@dataclass
class _Video:
    """One video so far; the embeddings of its clips are averaged."""

    clip_id: str
    captions: list[str]
    total: Tensor
    match: Tensor | None
    num_views: int = 1

    def add(self, embedding: Tensor) -> None:
        """Add another clip; pairs are scored with the first."""
        self.total = self.total + embedding
        self.num_views += 1

    @property
    def embedding(self) -> Tensor:
        return self.total / self.num_views
