"""Secrets that a URL may hold, and how it is shown and stored without them."""

import re

_URL = re.compile(r"\w+://[^\s'\"]+")
# A container of Azure's stands where others have a user. A password may hold slashes and `@`; a port is none.
_USER = re.compile(r"^((?!abfss?:|wasbs?:|az:)\w+://)(?:[^@/]*:(?!\d+/).*@|[^/]*@)")
_QUERY = re.compile(r"([?&][^=&/]+=)[^&]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def masked(text: str) -> str:
    """`text` with the URLs in it, if any, less their users, passwords and queries' values; and less tokens of the hub."""
    shown = _URL.sub(lambda url: masked_query(_USER.sub(r"\1***@", url[0])), text)
    return _TOKEN.sub("hf_***", shown)


def masked_query(url: str) -> str:
    """A URL, or the end of one, without the values of its query: a renewed signature does not change it."""
    return _QUERY.sub(r"\1***", url)
