"""What graphs are fed with, everywhere in the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Feed"]

Feed: TypeAlias = Mapping[str, NDArray[np.int64]]
"""Input name -> int64 array in the shape that ``arrange_rows`` gives it: ``[batch, tokens]``, for multiple choice
``[batch, 1, tokens]``. The length config is ``[layers]``."""
