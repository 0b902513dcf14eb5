"""Sizes of LocoMotion's three towers: frames, texts, and the layers that join them (locomotion.md, section 3)."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, TextSpec, VideoSpec
from tubelets.models.common.configuration import RegisteredConfig

# Far above every published model: a crafted file must be refused before memory is allocated.
MAX_DEPTH = 1024
MAX_TOKENS = 2**20
MAX_VALUES = 2**33


class TransformerSizes:
    """Checks of a stack of transformer layers, for the configuration of a tower."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str

    @property
    def num_values(self) -> int:
        """Approximate number of weights of the layers."""
        return (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size) * self.num_hidden_layers

    def validate_layers(self) -> None:
        """Reject sizes that do not make layers, or layers beyond memory."""
        # Imported lazily: it loads a thousand modules that `import tubelets` does not need.
        from transformers.activations import ACT2FN

        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}")
        if self.num_hidden_layers > MAX_DEPTH:
            raise ValueError(f"num_hidden_layers must lie in [1, {MAX_DEPTH}], got {self.num_hidden_layers}")
        if self.num_values > MAX_VALUES:
            raise ValueError(
                f"layers of these sizes would hold about {self.num_values:.3g} values, more than {MAX_VALUES:.3g}; "
                f"check hidden_size={self.hidden_size} and intermediate_size={self.intermediate_size}"
            )


@strict
class LocoMotionVideoConfig(TransformerSizes, RegisteredConfig, PreTrainedConfig):
    r"""Sizes of the video tower: BEiT-base on 4 frames, with attention over time.

    Args:
        image_size: height and width of the frames in pixels; a multiple of `patch_size`.
        patch_size: height and width of a patch in pixels.
        num_frames: frames in a clip; the model also accepts fewer, and more, whose positions in time it interpolates.
        num_channels: colour channels.
        image_mean: mean of each colour channel, on the scale [0, 1].
        image_std: standard deviation of each colour channel, on the scale [0, 1].
        hidden_size: width of a token.
        num_hidden_layers: layers of BEiT.
        num_attention_heads: heads of a layer.
        intermediate_size: width of a layer's MLP.
        hidden_act: its activation.
        drop_path_rate: stochastic depth of the last layer, in [0, 1); grows linearly from 0 at the first one.
        layer_scale_init_value: initial factor on both branches of a layer.
        layer_norm_eps: epsilon of every LayerNorm.
        temporal_attention: how tokens of several frames exchange information. `divided`: attention over time after
            each layer (VindLU); `stacked`: layers over time behind the frame encoder (Singularity-temporal); `none`:
            frames are encoded alone.
        temporal_head_size: width of a head of divided attention.
        temporal_num_layers: layers of stacked attention.
        temporal_dropout: dropout of stacked attention, and stochastic depth of divided attention, which is the same in
            every layer; in [0, 1).
        pool_after_time: the contrasted vector of a frame, with stacked attention: its class token after attention over
            time; False takes BEiT's pooled patches, which do not depend on the order of the frames. It is
            `update_pooler_embed` of the base framework, where False is the default. The choice here is ours.
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> LocoMotionVideoConfig(image_size=32).num_tokens
        5
    """

    model_type = "locomotion_video"
    base_config_key = "video_config"

    image_size: int = 224
    patch_size: int = 16
    num_frames: int = 4
    num_channels: int = 3
    image_mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    drop_path_rate: float | int = 0.1
    layer_scale_init_value: float | int = 0.1
    layer_norm_eps: float = 1e-12
    temporal_attention: Literal["divided", "stacked", "none"] = "divided"
    temporal_head_size: int = 64
    temporal_num_layers: int = 2
    temporal_dropout: float | int = 0.1
    pool_after_time: bool = True

    # What the layers of `transformers.BertModel`, of which stacked attention is made, read.
    is_decoder = False

    @property
    def hidden_dropout_prob(self) -> float:
        """Dropout of the layers of stacked attention."""
        return self.temporal_dropout

    @property
    def attention_probs_dropout_prob(self) -> float:
        """Dropout of their attention."""
        return self.temporal_dropout

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames."""
        size = (self.image_size, self.image_size)
        statistics = tuple(self.image_mean), tuple(self.image_std)
        return {"pixel_values": VideoSpec(self.num_frames, size, self.num_channels, *statistics)}

    @property
    def rows(self) -> int:
        """Rows of patches in a frame, and columns."""
        return self.image_size // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Tokens of a frame: its class token and its patches."""
        return 1 + self.rows**2

    @property
    def pools_class_tokens(self) -> bool:
        """Whether the contrasted vector of a frame is its class token after attention over time."""
        return self.temporal_attention == "stacked" and self.pool_after_time

    def validate_frames(self) -> None:
        """Reject frames that do not tile, or too many tokens."""
        for name in ("image_size", "patch_size", "num_frames", "num_channels"):
            if not 1 <= getattr(self, name) <= 2**14:
                raise ValueError(f"{name} must lie in [1, {2**14}], got {getattr(self, name)}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}")
        if self.num_tokens * self.num_frames > MAX_TOKENS:
            raise ValueError(
                f"a clip would have {self.num_tokens * self.num_frames} tokens, more than {MAX_TOKENS}; choose fewer "
                "frames, smaller ones or larger patches"
            )
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(f"{name} needs {self.num_channels} values, one per channel, got {getattr(self, name)}")
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std must be positive, got {self.image_std}")

    def validate_time(self) -> None:
        """Reject attention over time that the sizes do not allow."""
        for name in ("drop_path_rate", "temporal_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 1 <= self.temporal_num_layers <= MAX_DEPTH:
            raise ValueError(f"temporal_num_layers must lie in [1, {MAX_DEPTH}], got {self.temporal_num_layers}")
        if self.temporal_head_size < 1 or (
            self.temporal_attention == "divided" and self.hidden_size % self.temporal_head_size
        ):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of temporal_head_size={self.temporal_head_size}"
            )


@strict
class LocoMotionTextConfig(TransformerSizes, RegisteredConfig, PreTrainedConfig):
    r"""Sizes of the text tower: the first nine layers of BERT-base, and its tokenizer.

    Args:
        tokenizer: a folder or Hub id of a tokenizer, or `motion_words`: the package's own WordPiece vocabulary of the
            words of motion captions, which needs no download.
        vocab_size: rows of the table of words; at least those of the tokenizer.
        max_length: tokens of a caption; longer ones are cut, shorter ones padded.
        hidden_size: width of a token.
        num_hidden_layers: layers that read the text alone.
        num_attention_heads: heads of a layer.
        intermediate_size: width of a layer's MLP.
        hidden_act: its activation.
        hidden_dropout_prob: dropout of layers, in [0, 1).
        attention_probs_dropout_prob: dropout of attention, in [0, 1).
        max_position_embeddings: longest text.
        type_vocab_size: rows of the table of segments, of which only the first is used.
        layer_norm_eps: epsilon of every LayerNorm.
        pad_token_id: id of the padding.
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> LocoMotionTextConfig().input_specs["input_ids"].shape
        (48,)
    """

    model_type = "locomotion_text"
    base_config_key = "text_config"

    tokenizer: str = "google-bert/bert-base-uncased"
    vocab_size: int = 30522
    max_length: int = 48
    hidden_size: int = 768
    num_hidden_layers: int = 9
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    # What the layers of `transformers.BertModel` read, and is always the same here.
    is_decoder = False

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Token ids of a caption."""
        return {"input_ids": TextSpec(self.max_length, self.vocab_size)}

    def validate_words(self) -> None:
        """Reject tables beyond memory and lengths beyond the table of positions."""
        for name in ("vocab_size", "max_position_embeddings", "type_vocab_size"):
            if not 1 <= getattr(self, name) <= 2**24:
                raise ValueError(f"{name} must lie in [1, {2**24}], got {getattr(self, name)}")
        values = (self.vocab_size + self.max_position_embeddings + self.type_vocab_size) * self.hidden_size
        if values > MAX_VALUES:
            raise ValueError(
                f"tables of words and positions would hold {values:.3g} values, more than {MAX_VALUES:.3g}"
            )
        if not 2 <= self.max_length <= self.max_position_embeddings:
            raise ValueError(
                f"max_length must lie in [2, max_position_embeddings={self.max_position_embeddings}], got "
                f"{self.max_length}"
            )
        if not self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id must be less than vocab_size={self.vocab_size}, got {self.pad_token_id}")


@strict
class LocoMotionFusionConfig(TransformerSizes, RegisteredConfig, PreTrainedConfig):
    r"""Sizes of the layers in which tokens of a text attend to those of a video: the last three of BERT-base.

    Args:
        hidden_size: width of a text's token.
        encoder_hidden_size: width of a video's token.
        num_hidden_layers: layers.
        num_attention_heads: heads of a layer.
        intermediate_size: width of a layer's MLP.
        hidden_act: its activation.
        hidden_dropout_prob: dropout of layers, in [0, 1).
        attention_probs_dropout_prob: dropout of attention, in [0, 1).
        layer_norm_eps: epsilon of every LayerNorm.
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> LocoMotionFusionConfig().num_hidden_layers
        3
    """

    model_type = "locomotion_fusion"
    base_config_key = "fusion_encoder_config"

    hidden_size: int = 768
    encoder_hidden_size: int = 768
    num_hidden_layers: int = 3
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-12

    # What the layers of `transformers.BertModel` read, and is always the same here.
    is_decoder = False

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Nothing of a sample: these layers read what the other two towers encoded."""
        return {}
