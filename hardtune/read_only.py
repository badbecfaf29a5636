"""Arrays that are shared cannot be written to."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


def read_only(array: NDArray[Number]) -> NDArray[Number]:
    """A view that cannot be written to, so that no plug-in can change it for others; the array itself if it cannot.

    Sent to workers, an array that is there twice is stored once, and two views of it would be stored twice.
    """
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view
