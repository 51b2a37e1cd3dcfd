"""What makes and measures model sets: the main job never imports it."""
