"""Removes secrets from URLs before they are shown or stored."""

import re

_URL = re.compile(r"\w+://[^\s'\"]+")
# In Azure's URLs a container replaces the user. A password may contain slashes and `@`; a port is not a password.
_USER = re.compile(r"^((?!abfss?:|wasbs?:|az:)\w+://)(?:[^@/]*:(?!\d+/).*@|[^/]*@)")
_QUERY = re.compile(r"([?&][^=&/]+=)[^&]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def without_secrets(text: str) -> str:
    """Replaces users, passwords and query values of all URLs in `text`, and tokens of the hub, with `***`."""
    shown = _URL.sub(lambda url: without_query_values(_USER.sub(r"\1***@", url[0])), text)
    return _TOKEN.sub("hf_***", shown)


def without_query_values(url: str) -> str:
    """Masks the query values of a URL, or of the end of one, so that a renewed signature does not change it."""
    return _QUERY.sub(r"\1***", url)
