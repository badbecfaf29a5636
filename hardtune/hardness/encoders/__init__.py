"""Images to features (N, D): frozen pre-trained encoders, a user's own array, or plain pixels."""

from hardtune.hardness.encoders import clip, feature_file, pixels, timm_models  # noqa: F401  importing registers them
from hardtune.hardness.encoders.encoder import (
    ENCODERS,
    Encoder,
    check_encoder,
    encode,
    encoder_identity,
    is_by_image,
    parse_encoder,
)

__all__ = ["ENCODERS", "Encoder", "check_encoder", "encode", "encoder_identity", "is_by_image", "parse_encoder"]
