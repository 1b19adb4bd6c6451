"""How the files of this program are written, read back, locked and kept apart from its inputs."""
