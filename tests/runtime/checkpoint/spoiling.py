"""Damage that several tests do to a converted folder."""

import json
import shutil

from tests.convert.checkpoints import DIT


def rewrite(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def remove_params(folder):
    shutil.rmtree(folder / DIT / "params")


def remove_chunk(folder):
    next((folder / DIT / "params" / "blocks.mlp.up.kernel" / "c").rglob("0/0/0")).unlink()
