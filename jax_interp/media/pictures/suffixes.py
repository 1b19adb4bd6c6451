"""What files with pictures are called."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
"""What a folder's pictures are called. What is in them is told by their content."""
