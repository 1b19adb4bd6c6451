"""Frames: the classifier on SigLIP, faces and their pixelation, and pictures whose answers are known."""
