"""The writing, reading and locking of this program's own files, and their separation from its inputs."""
