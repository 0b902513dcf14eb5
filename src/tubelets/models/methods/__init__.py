"""Pretraining methods, one folder per paper."""
