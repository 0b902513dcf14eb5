"""VideoMAE-family base that the masked-video methods share; itself the pixel baseline."""
