"""The command line on a disk that takes its time to remove a folder."""

import shutil
import time

from jax_interp.cli.main import main
from jax_interp.media.pictures import png_writer

SECONDS = 4.0
"""Longer than the other processes need to notice that one has ended."""

remove = shutil.rmtree


def remove_slowly(*arguments, **options):
    time.sleep(SECONDS)
    remove(*arguments, **options)


if __name__ == "__main__":
    png_writer.shutil.rmtree = remove_slowly
    main()
