"""The limits of what a file may demand of its reader. Each applies while the file is read, and the message names it.

Real files stay far below. A state dict takes about 50 steps and 150 bytes of pickle for each tensor: T5-11B, Pixtral
and the 14B transformer have 500 to 1,300 tensors, and with an optimizer's moments three times as many. What a file at
these limits costs is measured by tests/convert/formats/test_limits.py.
"""

MAX_TEXT_BYTES = 1 << 24
"""Bytes of a pickle, of a safetensors header, and of an index or settings in JSON: 100,000 tensors take as much."""

MAX_DIRECTORY_BYTES = 1 << 24
"""Bytes of the directory of a zip archive, which has room for 200,000 records."""

MAX_STEPS = 4_000_000
"""Opcodes of a pickle; an opcode that makes something large counts several times."""

MAX_JSON_VALUES = 500_000
"""Entries of all objects and arrays of a JSON text; the header of safetensors has nine for a tensor."""

MAX_TENSORS = 200_000
"""Tensors of one file, or of all files of an index together."""

MAX_VALUES = 2_000_000
"""Values that a pickle's content holds: an object that is named twice counts twice, a tensor once for every axis."""

MAX_DEPTH = 100
"""How deep containers may be nested."""

MAX_NAME = 4096
"""Letters of the name of a tensor, a storage, a global or a record."""

MAX_NAME_LETTERS = 1 << 24
"""Letters of the names of all tensors together."""

MAX_AXES = 64
"""Axes of a tensor; this is the limit of numpy and of PyTorch."""
