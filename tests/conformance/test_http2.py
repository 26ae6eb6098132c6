"""h2spec, an HTTP/2 conformance suite, against our HTTP/2: behind a plain answerer, and on the real gRPC port.

It is a Go program, built here from its module. Skipped where Go is missing.
"""

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.sdk.apps import ENVIRONMENT
from tests.support.answerer import answerer
from tests.support.service import running_service

pytestmark = pytest.mark.timeout(300)

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec"
ALL = 146
"""Cases of h2spec 2.2.1, the strict one among them."""

PATIENCE_S = 10
"""How long it waits for what must come; reached only when a case fails."""

ENDED = "the answer 415 has ended the stream before the frame that is to break it"
WITHOUT_A_BODY = "the answer 415 has no body, whose flow this needs"
NO_CASE_OF_GRPC = {
    ("generic/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream"): WITHOUT_A_BODY,
    ("generic/2", "Sends a PRIORITY frame on half-closed (remote) stream"): WITHOUT_A_BODY,
    ("http2/5.1", "closed: Sends a DATA frame after sending RST_STREAM frame"): ENDED,
    ("http2/5.1", "closed: Sends a HEADERS frame after sending RST_STREAM frame"): ENDED,
    (
        "http2/5.1.2",
        "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
    ): "streams that are answered at once are never too many",
    ("http2/6.5.3", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE"): WITHOUT_A_BODY,
    ("http2/6.9", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream"): ENDED,
    ("http2/6.9.1", "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame"): WITHOUT_A_BODY,
    (
        "http2/6.9.1",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    ): ENDED,
    ("http2/6.9.2", "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame"): WITHOUT_A_BODY,
    ("http2/6.9.2", "Sends a SETTINGS frame for window size to be negative"): WITHOUT_A_BODY,
    ("http2/8.1", "Sends a second HEADERS frame without the END_STREAM flag"): ENDED,
    ("http2/8.1.2.1", "Sends a HEADERS frame that contains a pseudo-header field as trailers"): ENDED,
    (
        "http2/8.1.2.6",
        (
            'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame '
            "payload length"
        ),
    ): ENDED,
    (
        "http2/8.1.2.6",
        (
            'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the '
            "multiple DATA frames payload length"
        ),
    ): ENDED,
}
"""A request of h2spec is no gRPC, and answered 415 at once: what these judge can't happen then. With the reason."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, as h2spec names it, and what became of it: empty if it passed."""

    section: str
    number: int
    title: str
    wrong: str


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("h2spec")
    source = shutil.copytree(Path(__file__).parent / "h2spec", folder / "source")

    def go(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("go", *command), cwd=source, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
        )

    fetched = go("list", "-deps", H2SPEC)
    if fetched.returncode:
        pytest.skip(f"the Go modules cannot be had: {fetched.stderr.strip().rpartition(chr(10))[2].strip()}")
    built = go("build", "-trimpath", "-o", f"{folder}/h2spec", H2SPEC)
    assert not built.returncode, built.stderr
    return folder / "h2spec"


async def cases(h2spec: Path, port: int, report: Path, *only: str) -> list[Case]:
    """All cases, or some, against a port."""
    process = await asyncio.create_subprocess_exec(
        h2spec,
        "--strict",
        f"--port={port}",
        f"--timeout={PATIENCE_S}",
        f"--junit-report={report}",
        *only,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert b"Finished in" in output, output.decode()
    return [
        Case(
            suite.attrib["package"],
            number,
            case.attrib["classname"],
            " ".join(found.text or found.tag for found in case),
        )
        for suite in ET.parse(report).iter("testsuite")
        for number, case in enumerate(suite.iter("testcase"), 1)
    ]


def wrong(found: list[Case]) -> list[Case]:
    return [case for case in found if case.wrong]


async def test_all_cases_pass_behind_a_plain_answerer(h2spec: Path, tmp_path: Path) -> None:
    async with answerer() as port:
        found = await cases(h2spec, port, tmp_path / "report.xml")
    assert wrong(found) == []
    assert len(found) == ALL


async def test_all_cases_that_can_be_had_pass_on_the_grpc_port(h2spec: Path, tmp_path: Path) -> None:
    async with answerer() as port:
        known = await cases(h2spec, port, tmp_path / "known.xml")
    assert {(case.section, case.title) for case in known} >= NO_CASE_OF_GRPC.keys()
    asked = [case for case in known if (case.section, case.title) not in NO_CASE_OF_GRPC]
    assert len(asked) == ALL - len(NO_CASE_OF_GRPC)
    async with running_service() as service:
        port = int(service.grpc.rpartition(":")[2])
        only = [f"{case.section}/{case.number}" for case in asked]
        found = await cases(h2spec, port, tmp_path / "report.xml", *only)
    assert wrong(found) == []
    assert len(found) == len(asked)
