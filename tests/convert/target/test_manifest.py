import json

import ml_dtypes
import numpy as np

from convert.mapping.matching import plan_leaves
from convert.mapping.ops import transpose
from convert.mapping.rules import Rule
from convert.source.provenance import SourceRecord
from convert.target.manifest import main_dtype, write_description
from jax_interp.config import T5Config
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.param_files import ArrayStream
from tests.convert.mapping.test_matching import struct

STREAMS = {
    "stack": ArrayStream.of(np.zeros((3, 4, 5), ml_dtypes.bfloat16)),
    "one": ArrayStream.of(np.zeros((9,), np.float32)),
}


def test_what_is_written_is_what_is_opened(tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "data").write_bytes(b"12345")
    source = SourceRecord("model.pt", 10, 20, "ab", "cd", "unknown")
    leaves = plan_leaves(
        (Rule("l.{i}.w", "stack", transpose), Rule("w", "one")), {"stack": struct(3, 4, 5), "one": struct(9)}
    )
    write_description(
        tmp_path,
        component="text_encoder",
        config=T5Config(width=6),
        settings={"dtype": None, "weights": "model"},
        sources=(source,),
        leaves=leaves,
        streams=STREAMS,
    )
    found = open_component(tmp_path)
    assert (found.component, found.config, found.dtype) == ("text_encoder", T5Config(width=6), "bfloat16")
    assert found.manifest["files"] == {"params/data": 5}
    assert [SourceRecord(**entry) for entry in found.manifest["sources"]] == [source]
    assert found.manifest["params"] == {
        "stack": {"shape": [3, 4, 5], "dtype": "bfloat16", "source": "l.{i}.w", "op": "transpose"},
        "one": {"shape": [9], "dtype": "float32", "source": "w", "op": "keep"},
    }
    assert json.loads((tmp_path / "config.json").read_text()).keys() == {
        "component",
        "format_version",
        "dtype",
        "config",
    }


def test_the_main_dtype_has_the_most_bytes():
    assert main_dtype(STREAMS) == "bfloat16"
    assert main_dtype({"one": STREAMS["one"]}) == "float32"
