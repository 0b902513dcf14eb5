"""SMILE: masked video modelling of image-language features under synthetic motion."""
