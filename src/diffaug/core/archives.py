"""What the standard library raises for damaged archives and compressed files, found where they are read."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib

#: For a gzip file.
GZIP_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)
#: For a .zip or .tar archive. An encrypted member of a zip file is a RuntimeError, and one that is packed in an unknown way a
#: NotImplementedError, which is one too.
ARCHIVE_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)
