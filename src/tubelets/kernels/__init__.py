"""The few faster code paths, behind one door."""
