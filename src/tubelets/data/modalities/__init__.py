"""What a sample is made of, what a model takes of it, and how it is decoded."""
