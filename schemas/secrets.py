"""Secrets that a URL may hold, and how the URL is shown and stored without them."""

import re

_URL = re.compile(r"\w+://[^\s'\"]+")
# In Azure's URLs a container stands where others have a user. A password may contain slashes and `@`; a port is not one.
_USER = re.compile(r"^((?!abfss?:|wasbs?:|az:)\w+://)(?:[^@/]*:(?!\d+/).*@|[^/]*@)")
_QUERY = re.compile(r"([?&][^=&/]+=)[^&]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def without_secrets(text: str) -> str:
    """`text` with `***` for the users, passwords and query values of all URLs in it, and for tokens of the hub."""
    shown = _URL.sub(lambda url: without_query_values(_USER.sub(r"\1***@", url[0])), text)
    return _TOKEN.sub("hf_***", shown)


def without_query_values(url: str) -> str:
    """A URL, or the end of one, without the values of its query: a renewed signature does not change it."""
    return _QUERY.sub(r"\1***", url)
