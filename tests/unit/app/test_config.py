"""Settings: every source, who beats whom, and an error for everything that is wrong."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adsum.app.config import ConfigError, Settings, document, find, load, table
from adsum.app.settings import FILED, SPECS, env_name, flag_name
from adsum.app.values import Address

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
GOOD_SECRET = "a secret that is longer than 32 bytes"


def problems(
    flags: dict[str, object] | None = None, env: dict[str, str] | None = None, path: str | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, env or {}, path)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "adsum.toml")


class Writer:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, content: str) -> str:
        self.path.write_text(content, encoding="utf-8")
        return str(self.path)


def test_no_source_gives_the_defaults() -> None:
    assert load({}, {}, None) == Settings()


def test_every_default_is_what_its_own_kind_reads() -> None:
    for name, spec in SPECS.items():
        default = getattr(Settings(), name)
        assert spec.kind.read(default) == default, name


def test_every_setting_can_be_given_in_every_source(write: Writer) -> None:
    """What the file says in its own type, environment and flags say as text."""
    other = Settings(
        ws=Address("::1", 1),
        grpc=Address("localhost", 2),
        http=Address("127.9.9.9", 0),
        store="redis://localhost",
        node="a-b.c_1",
        platforms=("seed", "20:Watch:Wearable"),
        secret=GOOD_SECRET,
        admins=("root", "öl"),
        login_policy=4,
        origins=("https://chat.example.com",),
        webhook_url="https://example.com/hook",
        log_level="debug",
        log_format="json",
        **{  # type: ignore[arg-type]
            item.name: not item.default if isinstance(item.default, bool) else int(item.default) + 1
            for item in dataclasses.fields(Settings)
            if isinstance(item.default, int) and item.name != "login_policy"
        },
    )
    texts = {name: as_text(getattr(other, name)) for name in SPECS}
    content = "\n".join(f"{name} = {as_toml(getattr(other, name))}" for name in SPECS)
    assert load({}, {}, write(content)) == other
    assert load({}, {env_name(name): text for name, text in texts.items()}, None) == other
    assert load(dict(texts), {}, None) == other


def as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return as_text(value) if isinstance(value, int) else f'"{value}"'


def test_a_flag_beats_the_environment_which_beats_the_file(write: Writer) -> None:
    path = write("partitions = 1\nflush_batch = 1\npage_size = 1\n")
    env = {"ADSUM_FLUSH_BATCH": "2", "ADSUM_PAGE_SIZE": "2"}
    settings = load({"page_size": "3", "partitions": None}, env, path)
    assert (settings.partitions, settings.flush_batch, settings.page_size) == (1, 2, 3)


def test_the_environment_names_the_file_unless_the_command_line_does(write: Writer) -> None:
    path = write("partitions = 7")
    assert load({}, {"ADSUM_CONFIG": path}, None).partitions == 7
    assert load({}, {"ADSUM_CONFIG": "/nowhere.toml"}, path).partitions == 7


def test_a_missing_file_is_named_and_other_problems_are_still_told() -> None:
    found = problems({"ws": "0.0.0.0:1"}, {"ADSUM_PAGE_SIZE": "x"}, "/no/such.toml")
    assert found[0] == "config file /no/such.toml cannot be read: No such file or directory"
    assert found[1].startswith("page_size = 'x' (environment variable ADSUM_PAGE_SIZE)")
    assert len(found) == 2, "the file may have held the secret that the address needs"


def test_a_file_that_is_not_toml_is_named_with_the_place(write: Writer) -> None:
    (problem,) = problems(path=write("ws = \n"))
    assert "adsum.toml is not TOML" in problem
    assert "line 1" in problem


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "adsum.toml"
    path.write_bytes(b"node = '\xff'")
    assert "is not TOML" in problems(path=str(path))[0]


def test_a_file_with_an_unknown_key_gets_a_suggestion(write: Writer) -> None:
    path = write("partition = 3")
    assert problems(path=path) == (f"partition (file {path}) is no setting: did you mean partitions?",)


def test_a_file_with_sections_is_told_that_there_are_none(write: Writer) -> None:
    (problem,) = problems(path=write("[webhook]\nurl = 'http://x'"))
    assert problem.startswith("webhook (file ")
    assert "no sections" in problem


def note(variable: str, raw: str) -> str:
    """The one note on an environment variable, which changes nothing."""
    found = find({}, {variable: raw}, None)
    assert found.settings == Settings()
    (told,) = found.notes
    return told


def test_an_unknown_variable_is_passed_over_with_a_suggestion() -> None:
    """`ADSUM_COMPILE=1 pip install` leaves one behind, for instance."""
    told = note("ADSUM_PAGESIZE", "3")
    assert told.startswith("environment variable ADSUM_PAGESIZE is no setting and is passed over")
    assert told.endswith("did you mean page_size?")
    assert "ADSUM_COMPILE" in note("ADSUM_COMPILE", "1")


def test_a_variable_in_the_wrong_case_is_unknown() -> None:
    assert note("ADSUM_ws", "x").endswith("did you mean ws?")


def test_the_value_of_an_unknown_name_is_not_shown(write: Writer) -> None:
    """It may be a misspelt secret."""
    assert "hunter2" not in note("ADSUM_SECRETS", "hunter2")
    assert "hunter2" not in problems(path=write("secrets = 'hunter2'"))[0]


@pytest.mark.parametrize("name", SPECS)
def test_an_empty_variable_is_not_set(name: str) -> None:
    found = find({}, {env_name(name): "", "ADSUM_CONFIG": "", "ADSUM_NOTHING": ""}, None)
    assert (found.settings, found.sources, found.notes) == (Settings(), {}, ())


SECRET_URLS = {
    "store": "redis://:hunter2@h/0",
    "webhook_url": "http://u:hunter2@h/",
    "projection_url": "redis://:hunter2@h/1",
    "secret": GOOD_SECRET,
}


@pytest.mark.parametrize("name", FILED)
def test_what_is_secret_can_be_in_a_file_of_its_own(name: str, write: Writer, tmp_path: Path) -> None:
    """Named by the file of settings, the environment or a flag; or as a credential of systemd."""
    assert set(FILED) == set(SECRET_URLS)
    value = SECRET_URLS[name]
    own = tmp_path / f"adsum_{name}"
    own.write_text(f"{value}\n")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for found in (
        find({f"{name}_file": str(own)}, {}, None),
        find({}, {f"ADSUM_{name.upper()}_FILE": str(own)}, None),
        find({}, {}, write(f"{name}_file = '{own}'")),
        find({}, credentials, None),
    ):
        assert getattr(found.settings, name) == value
        assert str(own) in found.sources[name]
    given = load({name: value.replace("hunter2", "hunter3")}, credentials, None)
    assert getattr(given, name) == value.replace("hunter2", "hunter3")


def test_a_setting_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    own = tmp_path / "secret"
    own.write_text(GOOD_SECRET)
    (problem,) = problems({"secret": "hunter2"}, {"ADSUM_SECRET_FILE": str(own)})
    assert problem == (
        "secret (flag --secret) and secret_file (environment variable ADSUM_SECRET_FILE) are both set: leave one out"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff", "is not text in UTF-8"),
        (b"x" * 65_537, "is longer than 65536 bytes"),
        (f"{GOOD_SECRET}\n\n".encode(), "line break"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["no-text", "long", "two-breaks", "absent"],
)
def test_a_secret_file_that_is_no_good_is_named(content: bytes | None, why: str, tmp_path: Path) -> None:
    own = tmp_path / "secret"
    if content is not None:
        own.write_bytes(content)
    (problem,) = problems({"secret_file": str(own)})
    assert problem.startswith(f"secret (file {own}, by flag --secret-file) ")
    assert why in problem
    assert GOOD_SECRET not in problem


def test_who_only_asks_need_not_know_the_secret() -> None:
    assert find({"ws": "0.0.0.0:1"}, {}, None, serving=False).settings.secret == ""


def test_other_programs_variables_are_ignored() -> None:
    assert load({}, {"PATH": "/bin", "ADSUMMER": "x", "MY_ADSUM_WS": "x"}, None) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ADSUM_SERVICE_HOST", "10.0.0.1"),
        ("ADSUM_SERVICE_PORT", "10001"),
        ("ADSUM_SERVICE_PORT_GRPC", "10110"),
        ("ADSUM_PORT", "tcp://10.0.0.1:10001"),
        ("ADSUM_PORT_10001_TCP", "tcp://10.0.0.1:10001"),
        ("ADSUM_PORT_10001_TCP_ADDR", "10.0.0.1"),
        ("ADSUM_WS_SERVICE_HOST", "10.0.0.1"),
        ("ADSUM_WS_PORT", "tcp://10.0.0.1:10001"),
    ],
)
def test_variables_that_kubernetes_sets_are_ignored(variable: str, value: str) -> None:
    assert load({}, {variable: value}, None) == Settings()


def test_a_port_variable_set_by_hand_is_unknown() -> None:
    assert "is no setting" in note("ADSUM_PORT", "10001")


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("partitions", "many", "must be a whole number from 1 to 4_096"),
        ("partitions", "0", "must be a whole number from 1 to 4_096"),
        ("partitions", "4097", "must be a whole number from 1 to 4_096"),
        ("partitions", "", "must be a whole number from 1 to 4_096"),
        ("partitions", "1__0", "must be a whole number from 1 to 4_096"),
        ("partitions", "9" * 5_000, "must be a whole number from 1 to 4_096"),
        ("partitions", True, "must be a whole number from 1 to 4_096"),
        ("partitions", 6.5, "must be a whole number from 1 to 4_096"),
        ("login_policy", "2", "must be one of 0, 1, 4, 5"),
        ("login_policy", True, "must be one of 0, 1, 4, 5"),
        ("log_level", "loud", "must be one of debug, info, warning, error"),
        ("log_level", 3, "must be one of debug, info, warning, error"),
        ("webhook_online", "maybe", "must be true or false"),
        ("webhook_online", 2, "must be true or false"),
        ("node", "a b", "must be up to 128 letters, digits, dots, hyphens or underscores"),
        ("node", 7, "must be up to 128 letters, digits, dots, hyphens or underscores"),
        ("ws", "10001", "must be HOST:PORT"),
        ("ws", ":10001", "must be HOST:PORT"),
        ("ws", "127.0.0.1:65536", "must be HOST:PORT"),
        ("ws", "::1:1", "must be HOST:PORT"),
        ("ws", "[127.0.0.1]:1", "must be HOST:PORT"),
        ("ws", "[::g]:1", "must be HOST:PORT"),
        ("ws", 1.5, "must be HOST:PORT"),
        ("store", "postgres://x", "must be memory: or a Redis URL; the store URL is not of a known form"),
        ("store", "redis://a,b", "several hosts need redis+cluster:// or redis+sentinel://"),
        ("store", 1, "must be memory: or a Redis URL"),
        ("webhook_url", "ftp://example.com", "must be an http:// or https:// URL"),
        ("webhook_url", "http://", "must be an http:// or https:// URL"),
        ("webhook_url", "http://host:port", "must be an http:// or https:// URL"),
        ("webhook_url", "http://[::1", "must be an http:// or https:// URL"),
        ("webhook_url", "http://a b", "must be an http:// or https:// URL"),
        ("admins", "a,,b", "must be a list of texts, none of them empty"),
        ("admins", [1], "must be a list of texts, none of them empty"),
        ("admins", 1, "must be a list of texts, none of them empty"),
        ("origins", "chat.example.com", "must be origins as browsers send them"),
        ("origins", "https://chat.example.com/", "must be origins as browsers send them"),
        ("platforms", "ios", "platform 'ios' is neither a preset (openim, seed) nor ID:NAME:CLASS"),
        ("platforms", "63:X:Y", "platform ID 63 is out of range: use 1 to 62"),
        ("platforms", "", "no platform is configured"),
    ],
)
def test_a_bad_value_is_told_with_its_name_source_and_what_is_right(name: str, raw: object, why: str) -> None:
    (problem,) = problems({name: raw})
    assert problem.startswith(f"{name} = ")
    assert f"(flag {flag_name(name)}) " in problem
    assert why in problem
    assert len(problem) < 400


def test_all_problems_are_told_at_once(write: Writer) -> None:
    path = write("nodes = 'x'\npartitions = 0\nretry_min_ms = 9000\n")
    found = problems({"ws": "nowhere"}, {"ADSUM_LOG_LEVEL": "loud"}, path)
    assert [problem.split()[0] for problem in found] == ["nodes", "partitions", "log_level", "ws", "retry_min_ms"]


def test_a_bad_value_that_a_stronger_source_replaces_is_still_an_error() -> None:
    assert len(problems({"partitions": "3"}, {"ADSUM_PARTITIONS": "x"})) == 1


def test_a_secret_is_never_shown() -> None:
    settings = load({"secret": GOOD_SECRET, "webhook_url": "http://u:hunter2@h/?k=hunter3"}, {}, None)
    assert GOOD_SECRET not in repr(settings)
    assert "hunter" not in repr(settings)
    (problem,) = problems({"secret": ["hunter2"]})
    assert problem == "secret (flag --secret) must be text"


@pytest.mark.parametrize("written", [f"{GOOD_SECRET}\n", f"{GOOD_SECRET}\r\n", f"\n{GOOD_SECRET}"])
def test_a_secret_with_a_line_break_at_its_end_is_refused(written: str) -> None:
    """It comes of `echo` instead of `printf`, and no token that others sign would be good."""
    (problem,) = problems({"secret": written})
    assert "line break" in problem
    assert GOOD_SECRET not in problem
    assert load({"secret": " \tkept\nas it is "}, {}, None).secret == " \tkept\nas it is "


@given(
    name=st.sampled_from(["store", "webhook_url"]),
    scheme=st.sampled_from(["redis://", "ftp://", "htp:/", "redis:", ""]),
    around=st.text(max_size=5),
)
def test_a_password_in_a_bad_url_is_not_shown(name: str, scheme: str, around: str) -> None:
    url = f"{scheme}user:{around}hunter2{around}@host/path?token=hunter3"
    (problem,) = problems({name: url})
    assert "hunter" not in problem


def test_addresses_are_read_and_written_alike() -> None:
    for text in ("127.0.0.1:10001", "[::1]:0", "localhost:65535", "chat.example.com:1"):
        assert str(load({"ws": text, "secret": GOOD_SECRET}, {}, None).ws) == text


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_any_ip_address_and_port_can_be_listened_on(host: object, port: int) -> None:
    listen = Address(str(host), port)
    assert load({"ws": str(listen), "secret": GOOD_SECRET}, {}, None).ws == listen


@given(st.text())
def test_any_text_as_an_address_is_read_or_refused(text: str) -> None:
    try:
        listen = load({"ws": text, "secret": GOOD_SECRET}, {}, None).ws
    except ConfigError:
        return
    assert listen.host
    assert 0 <= listen.port <= 65_535


@pytest.mark.parametrize("name", ["ws", "grpc", "http"])
@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "chat.example.com:1"])
def test_without_a_secret_every_port_must_be_on_loopback(name: str, text: str) -> None:
    (problem,) = problems({name: text})
    assert problem == f"{name} = {text} can be reached from other machines: set secret, or listen on 127.0.0.1"
    assert str(getattr(load({name: text, "secret": GOOD_SECRET}, {}, None), name)) == text


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "LocalHost:1"])
def test_loopback_needs_no_secret(text: str) -> None:
    assert load({"ws": text}, {}, None).ws.loopback


def test_two_ports_cannot_share_an_address() -> None:
    assert problems({"ws": "127.0.0.1:5", "http": "127.0.0.1:5"}) == (
        "http = 127.0.0.1:5 is taken by ws: give each its own port",
    )
    free = load({"ws": "127.0.0.1:0", "http": "127.0.0.1:0"}, {}, None)
    assert free.ws == free.http


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"retry_min_ms": "9000"}, "retry_min_ms = 9000 must not be greater than retry_max_ms = 5000"),
        ({"max_connections": "10"}, "max_connections_per_user = 64 must not be greater than max_connections = 10"),
        (
            {"heartbeat_timeout_ms": "20000"},
            "web_ping_interval_ms = 27000 must not be greater than heartbeat_timeout_ms = 20000",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_told(flags: dict[str, object], problem: str) -> None:
    assert problems(flags) == (problem,)


def test_several_workers_need_a_store_they_can_share() -> None:
    assert problems({"workers": "2"}) == (
        "workers = 2 cannot share store = memory:, which is in one process: set store to a Redis URL, or workers to 1",
    )
    assert load({"workers": "2", "store": "redis://localhost"}, {}, None).workers == 2
    assert len(problems({"workers": "2", "store": "nonsense"})) == 1


def test_what_is_unwise_is_a_warning() -> None:
    assert load({"secret": GOOD_SECRET}, {}, None).warnings() == []
    assert "random" in load({}, {}, None).warnings()[0]
    assert "sample configuration" in load({"secret": "openIM123"}, {}, None).warnings()[0]
    assert "shorter than 32 bytes" in load({"secret": "short"}, {}, None).warnings()[0]
    assert "asks callers for no token" in load({"secret": GOOD_SECRET, "grpc": "0.0.0.0:1"}, {}, None).warnings()[0]
    guarded = {"secret": GOOD_SECRET, "grpc_require_admin": True}
    assert "no gRPC call can succeed" in load(guarded, {}, None).warnings()[0]
    assert load({**guarded, "admins": "root"}, {}, None).warnings() == []
    hasty = {"secret": GOOD_SECRET, "lease_ttl_ms": 2_999}
    assert load(hasty, {}, None).warnings() == []
    assert "store_timeout_ms = 1000" in load({**hasty, "store": "redis://localhost"}, {}, None).warnings()[0]
    assert load({**hasty, "store": "redis://localhost", "store_timeout_ms": 999}, {}, None).warnings() == []


def test_the_committed_document_is_the_generated_one() -> None:
    """If not: `.venv/bin/python -m adsum.app.config > docs/configuration.md`."""
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_the_document_is_what_the_module_prints() -> None:
    printed = subprocess.run([sys.executable, "-m", "adsum.app.config"], check=True, capture_output=True)
    assert printed.stdout.decode() == document()


def test_the_table_has_every_setting_once() -> None:
    lines = table().splitlines()
    for name in SPECS:
        assert sum(line.startswith(f"| `{name}` | `{flag_name(name)}`") for line in lines) == 1
