"""Memory that was freed and is still the process's."""

from __future__ import annotations

import contextlib

LARGE_BYTES = 4 << 20
"""What is smaller than this is not worth a call."""


_M_MMAP_THRESHOLD = -3  # of <malloc.h>
_MAPPED_BYTES = 1 << 18


def give_back_memory() -> None:
    """Return freed memory to the system, and large blocks as soon as they are freed; only glibc is asked to.

    glibc keeps freed blocks of up to 32 MB for later, for each thread. Of one large answer several threads make JSON
    and bytes one after the other, so without this its size is counted once more for each of them.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):  # not every Python has ctypes
        import ctypes  # here, because only what is large needs it

        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        library.malloc_trim(0)
