"""How files of this program are written, read back and held against others."""
