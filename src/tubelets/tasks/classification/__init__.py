"""Classification of videos or sounds, with one label a clip or several."""
