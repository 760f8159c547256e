"""Secrets in URLs."""

import pytest

from schemas.errors import UserError
from schemas.process import exit_code_of
from schemas.secrets import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/a.txt", "s3://***@bucket/a.txt"),
        ("https://h/a.gz?X-Goog-Signature=secret&X-Goog-Date=secret", "https://h/a.gz?X-Goog-Signature=***&X-Goog-Date=***"),
        ("abfs://box@account/a?sig=secret%2F", "abfs://box@account/a?sig=***"),
        ("hf_secretsecretsecretsecret", "hf_***"),
        ("gs://bucket/a?.txt", "gs://bucket/a?.txt"),
        ("/data/a?b=c/x@y.txt", "/data/a?b=c/x@y.txt"),
        ("s3://key:sec/ret@bucket/a", "s3://***@bucket/a"),
        ("s3://key:s/e@cret@bucket/a", "s3://***@bucket/a"),
        ("https://user:p@ss@host/a", "https://***@host/a"),
        ("https://host:8080/a@b/c", "https://host:8080/a@b/c"),
        ("az://container@account/a", "az://container@account/a"),
    ],
)  # fmt: skip
def test_secrets_are_masked(url, shown, capsys):
    assert without_secrets(url) == shown

    def fails():
        raise UserError(f"{url}: cannot be read")

    assert exit_code_of(fails) == 2
    assert "secret" not in capsys.readouterr().err
