"""What a file has beside its pictures (sound, subtitles, metadata), and how it is carried over to another."""
