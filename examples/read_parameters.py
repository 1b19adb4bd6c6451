"""Read a converted network's parameters with plain Orbax, without jax-interp.

```
make demo
.venv/bin/python examples/read_parameters.py demo/converted/Cosmos-Predict1-7B-WorldInterpolator
```

A converted network is a folder: `config.json` says which architecture it is, `params` is an Orbax checkpoint of a
nested dict of arrays. The blocks of a transformer are one stacked tree: each array has a leading axis, one row a block.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the configuration and the parameters, as NumPy arrays, of the converted network in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    checkpointer = ocp.PyTreeCheckpointer()
    path = (folder / "params").absolute()
    metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:
        raise FileNotFoundError(f"{path} has no metadata of arrays")
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
    return config, checkpointer.restore(path, restore_args=as_numpy)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    config, params = read(folder)
    print(json.dumps(config, indent=2))
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        print(f"{jax.tree_util.keystr(path, simple=True, separator='.')}: {array.dtype} {list(array.shape)}")


if __name__ == "__main__":
    main()
