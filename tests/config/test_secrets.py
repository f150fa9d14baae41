"""API keys from the environment or a file."""

from pathlib import Path

import pytest

from slobench.config.secrets import resolve_secrets
from slobench.config.target import Talk
from slobench.errors import ConfigError


def test_a_key_from_the_environment_is_a_bearer_header_beside_the_others() -> None:
    """The key becomes Authorization; surrounding white space is not part of it."""
    talk = Talk(api_key_env="KEY", headers={"x-team": "a"})
    assert resolve_secrets(talk, {"KEY": " k1\n"}) == {"x-team": "a", "Authorization": "Bearer k1"}


def test_a_key_from_a_file_is_a_bearer_header(tmp_path: Path) -> None:
    """The file's only line is the key."""
    path = tmp_path / "key"
    path.write_text("k2\n")
    assert resolve_secrets(Talk(api_key_file=str(path)), {}) == {"Authorization": "Bearer k2"}


def test_without_a_key_the_headers_are_as_given() -> None:
    """No key, no Authorization."""
    assert resolve_secrets(Talk(headers={"a": "b"}), {"OPENAI_API_KEY": "k"}) == {"a": "b"}


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "is not set"),
        ({"KEY": " "}, "is empty"),
        ({"KEY": "s3c ret"}, "cannot be sent"),
        ({"KEY": "s3c\nret"}, "cannot be sent"),
        ({"KEY": "s3crét"}, "cannot be sent"),
    ],
)
def test_a_key_that_is_not_to_be_had_is_an_error_that_does_not_show_it(environ: dict[str, str], told: str) -> None:
    """An unset, empty or unsendable key is a readable ConfigError with the variable's name, never its value."""
    with pytest.raises(ConfigError, match=told) as caught:
        resolve_secrets(Talk(api_key_env="KEY"), environ)
    assert "'KEY'" in str(caught.value)
    assert "s3c" not in str(caught.value)


def test_a_key_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing file, a folder, an empty file and a name with NUL are ConfigErrors."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for name in (tmp_path / "none", tmp_path, empty, "a\0b"):
        with pytest.raises(ConfigError, match=r"talk\.api_key_file"):
            resolve_secrets(Talk(api_key_file=str(name)), {})


def test_two_keys_are_an_error() -> None:
    """A key beside an authorization header of any case is refused: which one counts would be a guess."""
    with pytest.raises(ConfigError, match="two API keys"):
        resolve_secrets(Talk(api_key_env="KEY", headers={"AUTHORIZATION": "x"}), {"KEY": "k"})
