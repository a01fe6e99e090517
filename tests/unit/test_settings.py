"""A setting that cannot be meant is refused where it is read: by its name, with what to do, and without its value."""

import pytest
from pydantic import ValidationError

from earmark.cli.quota import settings_of
from earmark.config import Settings
from earmark.errors import InvalidRequest
from earmark.uploads.inspection import check_allowed_types

NONE_GIVEN = {"cors_origins": (), "webhook_secrets": (), "image_resources": {}}


def refused(name: str, value: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})
    (problem,) = caught.value.errors()
    assert problem["loc"][0] == name
    assert "input_value" not in str(caught.value), "a value may be a secret"
    return problem["msg"]


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - NONE_GIVEN))
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_setting_is_not_taken_for_a_value(name: str, value: str) -> None:
    assert "empty: give it a value, or leave it out" in refused(name, value)


@pytest.mark.parametrize("name", NONE_GIVEN)
def test_an_empty_list_is_none(name: str) -> None:
    assert getattr(Settings(**{name: ""}), name) == NONE_GIVEN[name]


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.annotation in {int, float, int | None}]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "99999999999999999999"])
def test_a_number_has_bounds(name: str, value: str) -> None:
    refused(name, value)


@pytest.mark.parametrize(
    "url",
    ["postgres//earmark:hush@db/app", "mysql://earmark:hush@db/app", "postgresql://earmark:hu%sh@db/app", "hush"],
)
def test_an_address_of_no_postgresql_is_refused_without_the_password(url: str) -> None:
    said = refused("database_url", url)
    assert "postgresql://" in said
    assert "hu" not in said


@pytest.mark.parametrize("name", ["public_url", "qstash_url", "processor_url"])
@pytest.mark.parametrize("value", ["images.example.com", "ftp://a.example", "https://", "http://a.example:99999"])
def test_an_address_that_nobody_can_call_is_refused(name: str, value: str) -> None:
    refused(name, value)


def test_addresses_that_are_good() -> None:
    good = {"public_url": "https://a.example/images/", "processor_url": "http://[::1]:9000"}
    settings = Settings(**good, database_url="dbname=app")
    assert {name: getattr(settings, name) for name in good} == good
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "dbname=app"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("EARMARK_DATABSE_URL", "EARMARK_DATABASE_URL"),
        ("EARMARK_JWT_AUDIANCE", "EARMARK_JWT_AUDIENCE"),
        ("EARMARK_PROT", "EARMARK_PORT"),
        ("EARMARK_STORAGE", "EARMARK_STORAGE_URL"),
    ],
)
def test_a_misspelt_setting_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, wrong: str, meant: str) -> None:
    monkeypatch.setenv(wrong, "x")
    with pytest.raises(InvalidRequest, match=f"^{wrong} is no setting; did you mean {meant}\\?"):
        settings_of(None)


def test_variables_of_others_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EARMARK_URL", "EARMARK_TOKEN", "EARMARK_TEAM"):
        monkeypatch.setenv(name, "x")
    assert settings_of(None) == Settings()


@pytest.mark.parametrize("allowed", [["image/jpeg", "jpeg"], ["video/mp4"]])
def test_a_type_that_nothing_here_reads_is_refused(allowed: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"^EARMARK_ALLOWED_TYPES: .* is no type .*; there are image/jpeg, "):
        check_allowed_types(allowed)


def test_heic_without_its_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_allowed_types(["image/heic"])
    monkeypatch.setattr("earmark.uploads.inspection.find_spec", lambda _: None)
    with pytest.raises(InvalidRequest, match=r"image/heic needs pip install 'earmark\[heic\]'"):
        check_allowed_types(["image/jpeg", "image/heic"])
