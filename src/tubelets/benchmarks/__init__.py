"""Data sets made from real footage and sounds, whose labels are about motion or sound alone."""
