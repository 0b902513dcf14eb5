"""Configuration of LocoMotion (ACCV 2024, arXiv 2410.12018); marks of what is the paper's are in locomotion.md."""

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, TextSpec
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.methods.locomotion.configuration_towers import (
    MAX_VALUES,
    LocoMotionFusionConfig,
    LocoMotionTextConfig,
    LocoMotionVideoConfig,
)

if TYPE_CHECKING:
    from tubelets.motion import MotionSettings

OBJECTS = "mdorkenw/PIN_Synthetic_Dataset"
DESCRIBED = ("direction", "speed", "rotation", "scale")
NETWORKS = {
    "divided": "divided attention over time, as in VindLU; the paper's network is not confirmed",
    "stacked": "stacked attention over time, as in Singularity; the paper's network is not confirmed",
    "none": "no attention over time",
}
CAPTIONS = {
    "motion": "written from the motion of pasted objects; grammar and numbers are this package's, not the paper's",
    "data": "those of the data",
}
Tower = TypeVar("Tower", bound=PreTrainedConfig)


@strict
class LocoMotionConfig(RegisteredConfig, PreTrainedConfig):
    r"""Sizes of LocoMotion's towers, constants of its losses, and what its captions describe.

    Args:
        video_config: fields of `LocoMotionVideoConfig` that differ from its defaults.
        text_config: fields of `LocoMotionTextConfig`.
        fusion_encoder_config: fields of `LocoMotionFusionConfig`; its two widths are those of the other towers.
        max_length: tokens of a caption, as a field that recipes of retrieval change for any model; None is that of
            `text_config`.
        video_init: a BEiT checkpoint of transformers that pretraining starts from, such as
            `microsoft/beit-base-patch16-224-pt22k-ft22k`; None starts from random weights.
        text_init: a BERT checkpoint for the text tower and the fusion layers, such as `google-bert/bert-base-uncased`.
        projection_size: width of the contrasted features.
        temperature: initial value of the learnt number that similarities are divided by.
        min_temperature: smallest value that it may take.
        max_temperature: largest value.
        gather_features: contrast features over all processes; None gathers them with `divided` attention, as VindLU
            does, and keeps to the process's own with others, as Singularity does.
        contrastive_weight: weight of the contrast between videos and texts.
        matching_weight: weight of matching videos and texts.
        masked_language_weight: weight of predicting masked words; retrieval has none.
        masked_language_probability: share of words that are predicted, in [0, 1].
        matching_negatives: partners that do not match: `hard`, drawn by similarity, or `random`.
        hard_motion_negatives: also match each video with a caption of which one descriptor is wrong. Ours.
        captions: what texts say in pretraining: `motion` pastes moving objects and describes their motion, `data` takes
            the captions of the data and pastes nothing, as the base frameworks do.
        original_caption_probability: with `motion`, probability that a clip keeps the caption of the data. Ours.
        objects: what is pasted, see `tubelets.data.assets.objects.open_objects`.
        num_objects: pasted objects of a clip.
        motion_settings: fields of `tubelets.motion.MotionSettings` that differ from those of `locomotion`.
        num_phases: most phases of a motion; None draws one to three.
        describe: descriptors that captions name, among `direction`, `speed`, `rotation` and `scale`.
        verb_variation: describe motions with varied verbs, and not always with those of the plain grammar.
        template_probability: share of captions in the plain grammar when verbs are varied or paraphrases given.
        paraphrases: a JSONL file of paraphrases that a language model wrote, see `paraphrasing_locomotion.py`; None
            varies verbs by the package's table.
        initializer_range: standard deviation of initial weights.
        head_dropout: dropout before the classifier, in [0, 1).
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> config = LocoMotionConfig(text_config={"hidden_size": 384})
        >>> config.video_config.temporal_attention, config.gather_features
        ('divided', True)
        >>> config.fusion_encoder_config.hidden_size, config.fusion_encoder_config.encoder_hidden_size
        (384, 768)
    """

    model_type = "locomotion"
    sub_configs = {
        "video_config": LocoMotionVideoConfig,
        "text_config": LocoMotionTextConfig,
        "fusion_encoder_config": LocoMotionFusionConfig,
    }

    video_config: dict[str, Any] | LocoMotionVideoConfig | None = None
    text_config: dict[str, Any] | LocoMotionTextConfig | None = None
    fusion_encoder_config: dict[str, Any] | LocoMotionFusionConfig | None = None
    max_length: int | None = None
    video_init: str | None = None
    text_init: str | None = None
    projection_size: int = 256
    temperature: float | int = 0.07
    min_temperature: float | int = 0.001
    max_temperature: float | int = 0.5
    gather_features: bool | None = None
    contrastive_weight: float | int = 1.0
    matching_weight: float | int = 1.0
    masked_language_weight: float | int = 1.0
    masked_language_probability: float | int = 0.5
    matching_negatives: Literal["hard", "random"] = "hard"
    hard_motion_negatives: bool = False
    captions: Literal["motion", "data"] = "motion"
    original_caption_probability: float | int = 0.0
    objects: str = OBJECTS
    num_objects: int = 1
    motion_settings: dict[str, Any] | None = None
    num_phases: int | None = None
    describe: list[str] | tuple[str, ...] = DESCRIBED
    verb_variation: bool = True
    template_probability: float | int = 0.25
    paraphrases: str | None = None
    initializer_range: float | int = 0.02
    head_dropout: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the configurations of the towers, and choose whether features are gathered."""
        self.video_config = video = _tower(LocoMotionVideoConfig, "video_config", self.video_config)
        self.text_config = text = _tower(LocoMotionTextConfig, "text_config", self.text_config)
        widths = {"hidden_size": text.hidden_size, "encoder_hidden_size": video.hidden_size}
        given = self.fusion_encoder_config
        self.fusion_encoder_config = _tower(LocoMotionFusionConfig, "fusion_encoder_config", given, **widths)
        self.max_length = text.max_length if self.max_length is None else self.max_length
        if self.gather_features is None:
            self.gather_features = video.temporal_attention == "divided"
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; the longest caption is that of the text tower, also where `from_pretrained` sets it."""
        super().__setattr__(name, value)
        if name == "max_length" and isinstance(self.text_config, LocoMotionTextConfig):
            self.text_config.max_length = value

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames: the video tower alone is the backbone."""
        return self.video_config.input_specs  # type: ignore[union-attr]

    @property
    def retrieval_specs(self) -> dict[str, InputSpec]:
        """Frames and captions."""
        video, text = self._towers
        return {**video.input_specs, "input_ids": TextSpec(text.max_length, text.vocab_size)}

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Frames, and captions where those of the data are used."""
        if self.captions == "data" or self.original_caption_probability > 0:
            return self.retrieval_specs
        return self._towers[0].input_specs

    @property
    def card_rows(self) -> dict[str, str]:
        """The network, which is not confirmed to be the paper's, and what its towers started from."""
        rows = {"network": NETWORKS[self._towers[0].temporal_attention], "captions": CAPTIONS[self.captions]}
        parts = [part for part in (self.video_init, self.text_init) if part is not None]
        return rows | ({"started from": " and ".join(parts)} if parts else {})

    @property
    def _towers(self) -> tuple[LocoMotionVideoConfig, LocoMotionTextConfig]:
        assert isinstance(self.video_config, LocoMotionVideoConfig)
        assert isinstance(self.text_config, LocoMotionTextConfig)
        return self.video_config, self.text_config

    @property
    def hidden_size(self) -> int:
        """Width of a video's token."""
        return self._towers[0].hidden_size

    @property
    def num_frames(self) -> int:
        """Frames in a clip."""
        return self._towers[0].num_frames

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self._towers[0].image_size, self._towers[0].image_size

    @property
    def image_mean(self) -> tuple[float, ...]:
        """Mean of each colour channel, on the scale [0, 1]."""
        return tuple(self._towers[0].image_mean)

    @property
    def image_std(self) -> tuple[float, ...]:
        """Standard deviation of each colour channel, on the scale [0, 1]."""
        return tuple(self._towers[0].image_std)

    @property
    def motion(self) -> "MotionSettings":
        """How motions are drawn."""
        from tubelets.motion import MotionSettings

        fields: dict[str, Any] = {"num_objects": self.num_objects}
        if self.num_phases is not None:
            kept = MotionSettings.locomotion().key_frame_probabilities[: self.num_phases]
            fields["key_frame_probabilities"] = tuple(each / sum(kept) for each in kept)
        for name, value in (self.motion_settings or {}).items():
            fields[name] = tuple(value) if isinstance(value, list) else value
        return MotionSettings.locomotion(**fields)

    def validate_losses(self) -> None:
        """Reject constants out of range."""
        if not 0 < self.min_temperature <= self.temperature <= self.max_temperature:
            raise ValueError(
                "temperature must lie in [min_temperature, max_temperature], all positive, got "
                f"{self.min_temperature}, {self.temperature} and {self.max_temperature}"
            )
        for name in ("masked_language_probability", "original_caption_probability", "template_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 1 <= self.projection_size <= 2**14:
            raise ValueError(f"projection_size must lie in [1, {2**14}], got {self.projection_size}")

    def validate_towers(self) -> None:
        """Reject towers whose widths differ, or that are too large together."""
        video, text = self._towers
        fusion: Any = self.fusion_encoder_config
        text.validate_words()  # the longest caption may have been changed
        if (fusion.hidden_size, fusion.encoder_hidden_size) != (text.hidden_size, video.hidden_size):
            raise ValueError(
                f"fusion_encoder_config has hidden_size={fusion.hidden_size} and encoder_hidden_size="
                f"{fusion.encoder_hidden_size}, expected those of text and video, {text.hidden_size} and "
                f"{video.hidden_size}; leave them out"
            )
        values = sum(tower.num_values for tower in (video, text, fusion))
        if values > MAX_VALUES:
            raise ValueError(f"towers of these sizes would hold about {values:.3g} values, more than {MAX_VALUES:.3g}")

    def validate_captions(self) -> None:
        """Reject motions and captions that cannot be made."""
        unknown = [name for name in self.describe if name not in DESCRIBED]
        if unknown:
            raise ValueError(f"describe must name some of {', '.join(DESCRIBED)}, got {unknown[0]!r}")
        if not 1 <= self.num_objects <= 2:
            raise ValueError(f"num_objects must be 1 or 2, got {self.num_objects}")
        if self.num_phases is not None and not 1 <= self.num_phases <= 3:
            raise ValueError(f"num_phases must lie in [1, 3], got {self.num_phases}")
        if self.captions == "data" and self.hard_motion_negatives:
            raise ValueError("hard_motion_negatives needs captions='motion', whose descriptors are known")
        try:
            _ = self.motion  # refuses what it cannot draw
        except TypeError as error:
            raise ValueError(f"motion_settings must be fields of MotionSettings, got {self.motion_settings}") from error


def _tower(kind: type[Tower], name: str, given: Any, **widths: int) -> Tower:
    """The configuration of a tower, from fields, a configuration, or None."""
    if isinstance(given, kind):
        return given
    fields = dict(given or {})
    written = fields.pop("model_type", kind.model_type)
    fields.pop("transformers_version", None)
    try:
        if written != kind.model_type:
            raise ValueError(f"it is of model type {written!r}, expected {kind.model_type!r}")
        return kind(**{**widths, **fields})
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise StrictDataclassFieldValidationError(field=name, cause=error) from error
