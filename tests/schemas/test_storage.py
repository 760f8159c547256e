"""Files that may be created only once."""

import errno
import os

import pytest

from schemas.storage import create_bytes


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_files_are_created_once_without_hard_links(error, tmp_path, monkeypatch):
    def link(*_):
        raise OSError(error, "no links")

    monkeypatch.setattr(os, "link", link)
    assert create_bytes(str(tmp_path / "a"), b"1") and not create_bytes(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"1" and os.listdir(tmp_path) == ["a"]
