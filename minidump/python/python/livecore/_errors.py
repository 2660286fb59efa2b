"""The exceptions of livecore, and its warning."""

from typing import Optional


class Error(Exception):
    """An error of livecore.

    Errors of the operating system are ``OSError``. The attributes are None where they are unknown.
    """

    region: Optional[str]
    """The part of the file, or the variable of the kernel: ``dump_avail entry 3``."""
    offset: Optional[int]
    """The offset of the region in the file, or in the payload if the region is part of it."""
    address: Optional[int]
    """The address in memory."""
    found: Optional[str]
    """What the file contains."""
    expected: Optional[str]
    """What it should contain."""

    def __init__(
        self,
        message: str,
        *,
        region: Optional[str] = None,
        offset: Optional[int] = None,
        address: Optional[int] = None,
        found: Optional[str] = None,
        expected: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.region = region
        self.offset = offset
        self.address = address
        self.found = found
        self.expected = expected


class NotADumpError(Error):
    """The file is not a kernel dump."""


class BrokenError(Error):
    """The dump contradicts its format or itself."""


class UnsupportedError(Error):
    """This kind or version of dump is not supported."""


class EncryptedError(Error):
    """The dump is encrypted: its key is missing, is wrong or is not a usable key."""


class ReadError(Error):
    """Memory cannot be read; ``address`` is the first such address."""


class NotMappedError(ReadError):
    """The kernel does not map the virtual address."""


class NotInDumpError(ReadError):
    """The page is not in the dump. It is never read as zeros."""


class KernelError(Error):
    """The kernel file is missing, belongs to another dump or lacks a symbol, or its data is invalid."""


class ClosedError(Error, ValueError):
    """The dump is closed."""


class PanicError(Error):
    """A bug in livecore. The dump can still be used."""


class DumpWarning(UserWarning):
    """A part of the kernel's data cannot be read; the rest was returned."""
