"""Public names of the package; written by `scripts/make_stubs.py`."""

from tubelets.data.modalities.video import read_clip as read_clip
from tubelets.evaluation.skeleton_scores import classify_skeletons as classify_skeletons
from tubelets.models.backbones.agcn.configuration_agcn import AgcnConfig as AgcnConfig
from tubelets.models.backbones.agcn.modeling_agcn import AgcnForSkeletonClassification as AgcnForSkeletonClassification
from tubelets.models.backbones.agcn.modeling_agcn import AgcnModel as AgcnModel
from tubelets.models.backbones.bigru.configuration_bigru import BiGruConfig as BiGruConfig
from tubelets.models.backbones.bigru.modeling_bigru import (
    BiGruForSkeletonClassification as BiGruForSkeletonClassification,
)
from tubelets.models.backbones.bigru.modeling_bigru import BiGruModel as BiGruModel
from tubelets.models.backbones.hcn.configuration_hcn import HcnConfig as HcnConfig
from tubelets.models.backbones.hcn.modeling_hcn import HcnForSkeletonClassification as HcnForSkeletonClassification
from tubelets.models.backbones.hcn.modeling_hcn import HcnModel as HcnModel
from tubelets.models.backbones.i3d.configuration_i3d import I3DConfig as I3DConfig
from tubelets.models.backbones.i3d.modeling_i3d import I3DForVideoClassification as I3DForVideoClassification
from tubelets.models.backbones.i3d.modeling_i3d import I3DModel as I3DModel
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import (
    R2Plus1DNativeConfig as R2Plus1DNativeConfig,
)
from tubelets.models.backbones.r2plus1d_native.modeling_r2plus1d_native import (
    R2Plus1DNativeForVideoClassification as R2Plus1DNativeForVideoClassification,
)
from tubelets.models.backbones.r2plus1d_native.modeling_r2plus1d_native import (
    R2Plus1DNativeModel as R2Plus1DNativeModel,
)
from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig as ResNet3DConfig
from tubelets.models.backbones.resnet3d.modeling_resnet3d import (
    ResNet3DForVideoClassification as ResNet3DForVideoClassification,
)
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DModel as ResNet3DModel
from tubelets.models.backbones.resnext3d.configuration_resnext3d import ResNeXt3DConfig as ResNeXt3DConfig
from tubelets.models.backbones.resnext3d.modeling_resnext3d import (
    ResNeXt3DForVideoClassification as ResNeXt3DForVideoClassification,
)
from tubelets.models.backbones.resnext3d.modeling_resnext3d import ResNeXt3DModel as ResNeXt3DModel
from tubelets.models.backbones.stgcn.configuration_stgcn import StgcnConfig as StgcnConfig
from tubelets.models.backbones.stgcn.modeling_stgcn import (
    StgcnForSkeletonClassification as StgcnForSkeletonClassification,
)
from tubelets.models.backbones.stgcn.modeling_stgcn import StgcnModel as StgcnModel
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig as TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification as TubeletsVideoMAEForVideoClassification,
)
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEModel as TubeletsVideoMAEModel
from tubelets.models.backbones.video_vit.processing_video_vit import video_processor as video_processor
from tubelets.models.common.auto import register_model as register_model
from tubelets.models.common.auto_classes import AutoModelForSkeletonClassification as AutoModelForSkeletonClassification
from tubelets.models.common.auto_classes import AutoModelForVideoTextRetrieval as AutoModelForVideoTextRetrieval
from tubelets.models.common.entries import ModelEntry as ModelEntry
from tubelets.models.heads.video_text.configuration_video_text import (
    VideoTextDualEncoderConfig as VideoTextDualEncoderConfig,
)
from tubelets.models.heads.video_text.modeling_video_text import VideoTextDualEncoderModel as VideoTextDualEncoderModel
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig as LocoMotionConfig
from tubelets.models.methods.locomotion.modeling_encoder import LocoMotionModel as LocoMotionModel
from tubelets.models.methods.locomotion.modeling_locomotion import LocoMotionForPreTraining as LocoMotionForPreTraining
from tubelets.models.methods.locomotion.modeling_locomotion import (
    LocoMotionForVideoClassification as LocoMotionForVideoClassification,
)
from tubelets.models.methods.locomotion.modeling_locomotion import (
    LocoMotionForVideoTextRetrieval as LocoMotionForVideoTextRetrieval,
)
from tubelets.models.methods.masked_video.modeling_masked_video import (
    TubeletsVideoMAEForPreTraining as TubeletsVideoMAEForPreTraining,
)
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig as SigmaConfig
from tubelets.models.methods.sigma.modeling_sigma import SigmaForPreTraining as SigmaForPreTraining
from tubelets.models.methods.sigma.modeling_sigma import SigmaForVideoClassification as SigmaForVideoClassification
from tubelets.models.methods.sigma.modeling_sigma import SigmaModel as SigmaModel
from tubelets.models.methods.skeleton_contrast.configuration_skeleton_contrast import (
    SkeletonContrastConfig as SkeletonContrastConfig,
)
from tubelets.models.methods.skeleton_contrast.modeling_skeleton_contrast import (
    SkeletonContrastForPreTraining as SkeletonContrastForPreTraining,
)
from tubelets.models.methods.skeleton_contrast.modeling_skeleton_contrast import (
    SkeletonContrastForSkeletonClassification as SkeletonContrastForSkeletonClassification,
)
from tubelets.models.methods.skeleton_contrast.modeling_skeleton_contrast import (
    SkeletonContrastModel as SkeletonContrastModel,
)
from tubelets.models.methods.smile.configuration_smile import SmileConfig as SmileConfig
from tubelets.models.methods.smile.modeling_smile import SmileForPreTraining as SmileForPreTraining
from tubelets.models.methods.smile.modeling_smile import SmileForVideoClassification as SmileForVideoClassification
from tubelets.models.methods.smile.modeling_smile import SmileModel as SmileModel
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import (
    StructuredNoiseAudioConfig as StructuredNoiseAudioConfig,
)
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig as StructuredNoiseAudioVideoConfig,
)
from tubelets.models.methods.structured_noise.configuration_structured_noise_video import (
    StructuredNoiseVideoConfig as StructuredNoiseVideoConfig,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import (
    StructuredNoiseAudioForAudioClassification as StructuredNoiseAudioForAudioClassification,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import (
    StructuredNoiseAudioForPreTraining as StructuredNoiseAudioForPreTraining,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import (
    StructuredNoiseAudioModel as StructuredNoiseAudioModel,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio_video import (
    StructuredNoiseAudioVideoForPreTraining as StructuredNoiseAudioVideoForPreTraining,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio_video import (
    StructuredNoiseAudioVideoForVideoClassification as StructuredNoiseAudioVideoForVideoClassification,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio_video import (
    StructuredNoiseAudioVideoModel as StructuredNoiseAudioVideoModel,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_video import (
    StructuredNoiseVideoForPreTraining as StructuredNoiseVideoForPreTraining,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_video import (
    StructuredNoiseVideoForVideoClassification as StructuredNoiseVideoForVideoClassification,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_video import (
    StructuredNoiseVideoModel as StructuredNoiseVideoModel,
)
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import (
    TubeletContrastConfig as TubeletContrastConfig,
)
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import (
    TubeletContrastForPreTraining as TubeletContrastForPreTraining,
)
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import (
    TubeletContrastForVideoClassification as TubeletContrastForVideoClassification,
)
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import (
    TubeletContrastModel as TubeletContrastModel,
)

__version__: str
