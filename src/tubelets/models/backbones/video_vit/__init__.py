"""The video vision transformer that the masked-video methods share."""
