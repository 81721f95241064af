"""Which certificates a server is trusted by: the system's, or those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from afkcli.core.contract.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from types import ModuleType

FILE_VARIABLE = "SSL_CERT_FILE"
FOLDER_VARIABLE = "SSL_CERT_DIR"
KEY_LOG_VARIABLE = "SSLKEYLOGFILE"
NOT_READ = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables of other programs that name certificates, too."""

_MARK = b"-----BEGIN "


def check_certificates() -> None:
    """Raise `ConfigError` if a variable names certificates that cannot be read, or a key log that cannot be written.

    The certificates are not parsed: that takes milliseconds, and making the client does it anyway. A missing key log is
    created, as making the client would.

    Since: 0.2.
    """
    file, folder = os.environ.get(FILE_VARIABLE), os.environ.get(FOLDER_VARIABLE)
    if file:
        try:
            has_certificates = _MARK in Path(file).read_bytes()
        except OSError as error:
            raise _unusable(FILE_VARIABLE, file, error.strerror or str(error)) from None
        if not has_certificates:
            raise _unusable(FILE_VARIABLE, file, "there is no certificate in it")
    elif folder and not Path(folder).is_dir():
        raise _unusable(FOLDER_VARIABLE, folder, "it is not a folder")
    if log := os.environ.get(KEY_LOG_VARIABLE):
        try:
            Path(log).open("ab").close()
        except OSError as error:
            raise _unusable(KEY_LOG_VARIABLE, log, error.strerror or str(error)) from None


_kept: dict[str, ssl.SSLContext] = {}


def keep_tls_context(library: ModuleType) -> None:
    """Make the context of an HTTP library once for this process and its forks.

    Whoever calls this sees to it that a fork is not used once the certificates, or the variables that name them, have
    changed.

    Raises:
        ConfigError: a variable names what cannot be used.

    Since: 0.2.
    """
    _kept[library.__name__] = tls_context(library)


def tls_context(library: ModuleType) -> ssl.SSLContext:
    """Return the context in which a server's certificate is checked, as the HTTP library makes it.

    Raises:
        ConfigError: a variable names what cannot be used.

    Since: 0.2.
    """
    check_certificates()
    if library.__name__ in _kept:
        return _kept[library.__name__]
    try:
        context: ssl.SSLContext = library.create_ssl_context()
    except OSError as error:
        for variable in (FILE_VARIABLE, FOLDER_VARIABLE):
            if os.environ.get(variable):
                raise _unusable(variable, os.environ[variable], error.strerror or str(error)) from None
        raise
    return context


def unread_variables() -> str:
    """Return a line about certificates that a variable of another program names, "" where there are none.

    Since: 0.2.
    """
    named = [name for name in NOT_READ if os.environ.get(name)]
    return f"{' and '.join(named)} is not read: set {FILE_VARIABLE} to the file" if named else ""


def _unusable(variable: str, value: str, why: str) -> ConfigError:
    return ConfigError(f"{variable} is {value!r}, which cannot be used: {why}; correct it, or unset it")
