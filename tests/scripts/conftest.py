"""Scripts are run, not installed: their folder is put where Python looks when one is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
