"""Files that may be packed with gzip."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from kreludomain.errors import InputError

#: The most bytes that a file may have or unpack to: what a serialised ONNX model can have, 2 GiB.
LARGEST = 2**31 - 1
_CHUNK = 1 << 20


def read_packed(path: str | Path) -> bytes:
    """The contents of a file, unpacked if it is packed.

    Raises :class:`InputError`, one line that names the file, for one that is missing, damaged, or larger than
    :data:`LARGEST`; no more than that is unpacked.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = bytearray()
            while chunk := file.read(_CHUNK):
                content += chunk
                if len(content) > LARGEST:
                    raise InputError(f"{path}: {'unpacks to' if packed else 'has'} more than {_gigabytes()}")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a file") from None
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path}: {'cannot be unpacked' if packed else 'cannot be read'} ({why})") from None
    return bytes(content)


def _gigabytes() -> str:
    return f"{round(LARGEST / 2**30, 1):g} GB"
