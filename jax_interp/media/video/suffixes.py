"""The endings of files that are taken for videos where a folder is searched for some."""

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi")
