"""Chapter 3: the program becomes a web application, on port 7777.

The same code, the same store; beside the commands there is now `serve`. What a load balancer and ECS will ask of it is
settled here, while there is only one of it to look at: it says when it is healthy, it keeps nothing in its own memory
that another copy would need, and when it is told to stop, it finishes what it has begun.
"""

import http.client
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from checks import get, is_healthy, post, refuses_connections
from program import DATA, Program

ProgramOn = Callable[[Mapping[str, str]], Program]


def test_recommendations_must_be_the_same_on_the_page_in_the_api_and_on_the_command_line(furui: Program) -> None:
    """One program with three faces: a page for people, JSON for programs, and the command line as before.

    Look at the order of the recommendations: it is the same in all three.
    """
    furui.must("train", "--import", DATA)
    expected = [line["id"] for line in furui.must("recommend", "--limit", "20").lines("recommend")]
    with furui.serve() as server:
        api = get(server, "/api/recommendations?limit=20")
        page = get(server, "/")
        assert [item["id"] for item in api.json["recommendations"]] == expected
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        places = [page.text.index(f'id="{example_id}"') for example_id in expected]
        assert places == sorted(places)


def test_it_must_listen_on_port_7777_unless_told_otherwise(furui: Program, furui_on: ProgramOn) -> None:
    """The port is 7777, `PORT` in the environment changes it, and `--port` has the last word.

    Here it listens on an address of its own, 127.0.7.1, so that it is in nobody's way: on Linux all of 127.0.0.0/8 is
    this machine. In chapter 8 each Fargate task has an address of its own as well, and all of them listen on 7777.
    """
    with furui.start("serve", "--host", "127.0.7.1") as process:
        assert process.stdout
        assert "http://127.0.7.1:7777" in process.stdout.readline()
    with furui_on({"PORT": "7778"}).start("serve", "--host", "127.0.7.1") as process:
        assert process.stdout
        assert "http://127.0.7.1:7778" in process.stdout.readline()


def test_an_annotation_on_one_copy_must_be_seen_by_another(
    furui_on: ProgramOn, postgres: str, valkey: str, tmp_path: Path
) -> None:
    """Two copies behind a load balancer: a person says no to a text on the one, and the next page comes from the other.

    It works because neither keeps anything to itself; it is what chapter 2 was for.
    """
    program = furui_on({"DATABASE_URL": postgres, "REDIS_URL": valkey})
    program.must("train", "--import", DATA)
    with program.serve() as one, program.serve() as other:
        best = get(one, "/api/recommendations").json["recommendations"][0]
        assert get(other, "/api/recommendations").json["recommendations"][0] == best
        assert post(one, "/api/annotations", {"id": best["id"], "label": "n"}).status == 201
        remaining = get(other, "/api/recommendations?limit=1000").json["recommendations"]
        assert best["id"] not in [item["id"] for item in remaining]


def test_a_text_must_not_become_part_of_the_page(furui: Program, tmp_path: Path) -> None:
    """Texts come from outside; one of them may be a script. On the page it must be a text like any other."""
    (tmp_path / "evil.tsv").write_text("\t<script>alert('router')</script> network\n", encoding="utf-8")
    furui.must("train", "--import", DATA)
    furui.must("import", tmp_path / "evil.tsv")
    with furui.serve() as server:
        page = get(server, "/?limit=1000").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_health_must_not_depend_on_a_model_or_a_database(furui: Program) -> None:
    """`/healthz` says that this copy serves; it asks nobody else.

    If it asked the database, a database that is away for a minute would have every copy declared unhealthy and replaced
    at once, which helps nobody. Look at the recommendations meanwhile: they say what is missing.
    """
    with furui.serve() as server:
        assert is_healthy(server)
        answer = get(server, "/api/recommendations")
        assert (answer.status, answer.json) == (400, {"error": "there is no model yet; train first"})
        assert "There is no model yet" in get(server, "/").text


def test_mistakes_of_a_client_must_be_answered_and_harm_nobody_else(furui: Program) -> None:
    """Everything that listens is sent nonsense sooner or later. It gets an error of its own; others get their pages."""
    furui.must("train", "--import", DATA)
    with furui.serve() as server:
        assert get(server, "/api/recommendations?limit=no").status == 400
        assert get(server, "/nowhere").status == 404
        assert post(server, "/api/annotations", {"id": "0" * 16, "label": "y"}).status == 404
        assert post(server, "/api/annotations", {"id": "0" * 16}).status == 400
        assert post(server, "/healthz", {}).status == 405
        assert is_healthy(server)


def test_a_request_in_flight_must_be_finished_after_sigterm(furui: Program) -> None:
    """Deployments replace copies all day. ECS sends SIGTERM, waits (30 s, `stopTimeout`), then sends SIGKILL.

    A slow client is in the middle of its request when the signal comes: it has sent the head, and the server has said
    "100 Continue". New connections are refused from now on; this request is answered; then the program exits with 0.
    """
    furui.must("train", "--import", DATA)
    with furui.serve() as server:
        best = get(server, "/api/recommendations?limit=1").json["recommendations"][0]["id"]
        body = b'{"id": "%s", "label": "n"}' % best.encode()
        slow = http.client.HTTPConnection(server.host, server.port, timeout=20)
        slow.connect()
        idle = http.client.HTTPConnection(server.host, server.port, timeout=20)
        idle.request("GET", "/healthz")
        assert idle.getresponse().read()  # stays connected, as a load balancer would
        slow.putrequest("POST", "/api/annotations")
        slow.putheader("Expect", "100-continue")
        slow.putheader("Content-Length", str(len(body)))
        slow.endheaders()
        assert slow.sock.recv(100).startswith(b"HTTP/1.1 100 ")

        server.terminate()
        assert idle.sock.recv(1) == b"", "a connection that only waits must be closed"
        assert refuses_connections(server)
        assert server.process.poll() is None

        slow.sock.sendall(body)
        answer = slow.sock.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Connection: close" in answer
        ended = server.ended()
        assert (ended.exit_code, ended.errors) == (0, "")
        assert ended.output.splitlines()[-1] == "stopped"
        slow.close()
        idle.close()


def test_sigint_must_end_it_as_well(furui: Program) -> None:
    """Ctrl-C in a terminal, or an image whose STOPSIGNAL is SIGINT: the same orderly end."""
    with furui.serve() as server:
        server.process.send_signal(signal.SIGINT)
        assert server.ended().exit_code == 0


def test_a_port_that_is_taken_must_be_named_in_one_line(furui: Program) -> None:
    """Two copies on one machine, one port: the second says which port it is, and exits with 2.

    In chapter 6 this is the reason for dynamic host ports.
    """
    with furui.serve() as server:
        ran = furui.run("serve", "--host", server.host, "--port", str(server.port))
        assert ran.exit_code == 2
        assert f"cannot listen on {server.host}:{server.port}" in ran.errors
        assert len(ran.errors.splitlines()) == 1
