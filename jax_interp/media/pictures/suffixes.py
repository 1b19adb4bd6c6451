"""The suffixes of files with pictures."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
"""The suffixes by which pictures of a folder are found; their content tells their format."""
