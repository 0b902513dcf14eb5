"""Registration, safe loading, official layouts and authors' checkpoints."""
