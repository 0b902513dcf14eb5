"""Structured-noise masks for video, audio and audio-visual models, and the audio and audio-visual models themselves."""
