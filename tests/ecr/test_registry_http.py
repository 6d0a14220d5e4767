"""The registry's protocol at its edges, in plain HTTP."""

import http.client
import json
import socket
import threading
from pathlib import Path

import pytest
import requests

from emulation.ecr.uploads import Upload
from emulation.images.manifest import OCI_INDEX, OCI_MANIFEST
from emulation.images.reference import EcrName

from .conftest import ACCOUNT, REGION, Repository, Server, digest_of, files_of, sample_image

DATA = bytes(range(256)) * 1000


def error_of(answer: requests.Response) -> tuple[int, str, str]:
    error = answer.json()["errors"][0]
    return answer.status_code, error["code"], error["message"]


def test_the_ping_of_docker_is_answered_without_a_login(server: Server) -> None:
    """GET /v2/ gives 200 to a client of this machine, so that docker goes on without credentials."""
    answer = requests.get(f"http://{server.address}/v2/", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_blob_comes_back_whole_and_in_ranges(repository: Repository) -> None:
    """GET, HEAD and each form of Range give the right bytes; a range outside of the blob gives 416."""
    digest = repository.upload(DATA)
    assert repository.request("GET", f"blobs/{digest}").content == DATA
    head = repository.request("HEAD", f"blobs/{digest}")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(DATA)), b"")
    for header, wanted in (("0-9", DATA[:10]), ("100-", DATA[100:]), ("-5", DATA[-5:]), ("10-9999999", DATA[10:])):
        part = repository.request("GET", f"blobs/{digest}", headers={"Range": f"bytes={header}"})
        assert (part.status_code, part.content) == (206, wanted)
    beyond = repository.request("GET", f"blobs/{digest}", headers={"Range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


def test_a_blob_is_unknown_to_other_repositories(server: Server, repository: Repository) -> None:
    """What one repository has is not readable through another one, although both share the blob store."""
    digest = repository.upload(DATA)
    server.aws().create_repository(repositoryName="other")
    other = Repository(server, "other")
    assert error_of(other.request("GET", f"blobs/{digest}"))[:2] == (404, "BLOB_UNKNOWN")
    mounted = other.request("POST", f"blobs/uploads/?mount={digest}&from={ACCOUNT}/{REGION}/app")
    assert mounted.status_code == 201
    assert other.request("GET", mounted.headers["Location"]).content == DATA


def test_a_mount_from_where_the_blob_is_not_becomes_an_upload(server: Server, repository: Repository) -> None:
    """The registry answers 202 with an upload, as the specification asks, where the source lacks the blob."""
    answer = repository.request("POST", f"blobs/uploads/?mount={digest_of(b'no')}&from={ACCOUNT}/{REGION}/nowhere")
    assert answer.status_code == 202
    assert repository.request("GET", answer.headers["Location"]).status_code == 204


def test_chunks_must_follow_each_other(repository: Repository) -> None:
    """A chunk out of order gets 416 and the position that counts; the upload lives on and can be finished."""
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    first = repository.request("PATCH", upload, data=DATA[:1000], headers={"Content-Range": "0-999"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-999")
    for wrong in ("500-1499", "2000-2999", "1000-1500", "what"):
        refused = repository.request("PATCH", upload, data=DATA[1000:2000], headers={"Content-Range": wrong})
        assert (refused.status_code, refused.headers["Range"]) == (416, "0-999")
    assert repository.request("GET", upload).headers["Range"] == "0-999"
    last = {"Content-Range": f"1000-{len(DATA) - 1}"}
    done = repository.request("PUT", f"{upload}?digest={digest_of(DATA)}", data=DATA[1000:], headers=last)
    assert done.status_code == 201
    assert repository.request("GET", done.headers["Location"]).content == DATA


def test_a_cancelled_upload_is_gone(server: Server, repository: Repository) -> None:
    """DELETE of an upload removes its bytes; later requests for it get BLOB_UPLOAD_UNKNOWN."""
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    repository.request("PATCH", upload, data=DATA)
    assert repository.request("DELETE", upload).status_code == 204
    assert error_of(repository.request("PATCH", upload, data=DATA))[:2] == (404, "BLOB_UPLOAD_UNKNOWN")
    assert files_of(server) == []


@pytest.mark.parametrize("monolithic", [True, False])
def test_a_lying_digest_leaves_nothing_behind(server: Server, repository: Repository, monolithic: bool) -> None:
    """An upload whose bytes do not have the digest that was announced is refused with DIGEST_INVALID, and gone."""
    lie = digest_of(b"something else")
    if monolithic:
        answer = repository.request("POST", f"blobs/uploads/?digest={lie}", data=DATA)
    else:
        upload = repository.request("POST", "blobs/uploads/").headers["Location"]
        repository.request("PATCH", upload, data=DATA)
        answer = repository.request("PUT", f"{upload}?digest={lie}")
        assert repository.request("GET", upload).status_code == 404
    assert error_of(answer)[:2] == (400, "DIGEST_INVALID")
    assert files_of(server) == []


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:00", "../../etc/passwd", "sha256:" + "A" * 64])
def test_a_malformed_digest_is_refused(server: Server, repository: Repository, digest: str) -> None:
    """Nothing but sha256 and 64 lower-case hex digits is taken for a digest, neither to write nor to read."""
    assert error_of(repository.request("POST", f"blobs/uploads/?digest={digest}", data=b"x"))[1] == "DIGEST_INVALID"
    assert repository.request("GET", f"blobs/{digest}").status_code in (400, 404)
    assert files_of(server) == []


@pytest.mark.parametrize("how", ["PATCH", "PUT", "POST"])
def test_a_body_that_breaks_off_leaves_nothing_behind(server: Server, repository: Repository, how: str) -> None:
    """A client that leaves in the middle of a body leaves no upload, no blob and no file."""
    path = repository.base.removeprefix(f"http://{server.address}") + "/blobs/uploads/"
    if how == "POST":
        path += f"?digest={digest_of(DATA)}"
    else:
        path = repository.request("POST", "blobs/uploads/").headers["Location"] + f"?digest={digest_of(DATA)}"
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"{how} {path} HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: {len(DATA)}\r\n\r\n"
        connection.sendall(head.encode() + DATA[:1000])
    eventually_empty(server)


def eventually_empty(server: Server) -> None:
    """The server hears of the lost connection a moment after it was cut."""
    waiting = threading.Event()
    for _ in range(500):
        if files_of(server) == [] and not server.ecr.uploads._uploads:
            return
        waiting.wait(0.01)
    assert files_of(server) == []


def test_a_full_disk_is_said_and_leaves_nothing_behind(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full in the middle of an upload the answer is 507 with the reason, and nothing stays."""

    def full(self: Upload, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Upload, "write", full)
    answer = repository.request("POST", f"blobs/uploads/?digest={digest_of(DATA)}", data=DATA)
    assert error_of(answer)[0] == 507
    assert "disk" in answer.text and "full" in answer.text
    assert files_of(server) == []


def test_a_full_disk_changes_no_record_and_ends_no_pull(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be kept did not happen; when an image was pulled last is no reason to refuse it."""
    repository.push(sample_image(), "v1")

    def full(self: Path, data: str, **more: object) -> None:
        raise OSError(28, "No space left on device")

    ecr = server.aws()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert repository.request("GET", "manifests/v1").status_code == 200
        for change in (
            lambda: server.ecr.store.create(EcrName(ACCOUNT, REGION, "other"), {}),
            lambda: server.ecr.store.remove_tag(EcrName(ACCOUNT, REGION, "app"), "v1"),
        ):
            with pytest.raises(OSError):
                server.run(server.api.call(change))
    assert [found["repositoryName"] for found in ecr.describe_repositories()["repositories"]] == ["app"]
    assert ecr.describe_images(repositoryName="app")["imageDetails"][0]["imageTags"] == ["v1"]


def test_a_manifest_that_names_missing_blobs_is_refused(server: Server, repository: Repository) -> None:
    """MANIFEST_BLOB_UNKNOWN names the missing layers, and the manifest is not kept."""
    image = sample_image()
    repository.upload(image.config)
    status, code, message = error_of(repository.put_manifest(image.manifest, "v1"))
    assert (status, code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert digest_of(image.layer) in message and digest_of(image.config) not in message
    assert repository.request("GET", "manifests/v1").status_code == 404
    assert digest_of(image.manifest) not in files_of(server)


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b"not json", OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[]", OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[" * 100_000, OCI_MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json", "MANIFEST_INVALID"),
        (sample_image().manifest, OCI_INDEX, "MANIFEST_INVALID"),
        (sample_image().manifest.decode().encode("utf-16"), OCI_MANIFEST, "MANIFEST_INVALID"),
        (b" " * (5 << 20), OCI_MANIFEST, "MANIFEST_INVALID"),
    ],
)
def test_what_is_no_manifest_is_refused(repository: Repository, body: bytes, media_type: str, code: str) -> None:
    """Malformed, outdated, mislabelled and oversized manifests get MANIFEST_INVALID, never a failure inside."""
    status, found, _ = error_of(repository.put_manifest(body, "v1", media_type))
    assert (status in (400, 413), found) == (True, code)


def test_a_manifest_put_by_a_wrong_digest_is_refused(repository: Repository) -> None:
    """A manifest pushed by digest must have that digest."""
    image = sample_image()
    repository.push(image, "v1")
    assert error_of(repository.put_manifest(image.manifest, digest_of(b"other")))[:2] == (400, "DIGEST_INVALID")


def test_a_manifest_comes_back_byte_for_byte(repository: Repository) -> None:
    """By tag and by digest, with its media type; HEAD gives the length."""
    image = sample_image()
    digest = repository.push(image, "v1")
    for reference in ("v1", digest):
        answer = repository.request("GET", f"manifests/{reference}")
        assert (answer.content, answer.headers["Content-Type"]) == (image.manifest, OCI_MANIFEST)
        assert answer.headers["Docker-Content-Digest"] == digest
        assert repository.request("HEAD", f"manifests/{reference}").headers["Content-Length"] == str(
            len(image.manifest)
        )
    assert error_of(repository.request("GET", "manifests/v2"))[:2] == (404, "MANIFEST_UNKNOWN")


def test_tags_come_in_pages(repository: Repository) -> None:
    """tags/list is sorted; n and last cut it, and the Link header leads through all of it."""
    image = sample_image()
    tags = ["a", "b", "c", "d", "e"]
    for tag in reversed(tags):
        repository.push(image, tag)
    assert repository.request("GET", "tags/list").json()["tags"] == tags
    seen, path = [], "tags/list?n=2"
    while path:
        answer = repository.request("GET", path)
        seen.append(answer.json()["tags"])
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    assert repository.request("GET", "tags/list?last=c").json()["tags"] == ["d", "e"]


def test_deleting_a_tag_keeps_the_image_and_deleting_the_image_takes_its_blobs(
    server: Server, repository: Repository
) -> None:
    """By tag only the tag goes; by digest the image, its tags and the blobs that no other image needs."""
    kept, gone = sample_image("kept"), sample_image("gone")
    repository.push(kept, "kept")
    digest = repository.push(gone, "gone")
    repository.push(gone, "also")
    assert repository.request("DELETE", "manifests/also").status_code == 202
    assert repository.request("GET", f"manifests/{digest}").status_code == 200
    assert repository.request("DELETE", f"manifests/{digest}").status_code == 202
    assert repository.request("GET", "tags/list").json()["tags"] == ["kept"]
    assert files_of(server) == sorted(digest_of(part) for part in (kept.layer, kept.config, kept.manifest))


def test_a_blob_that_is_about_to_be_named_is_not_collected(server: Server, repository: Repository) -> None:
    """While one client deletes the last image with a layer, another one who has just looked for it can still push."""
    old = sample_image("same layer")
    new = sample_image("same layer", annotations={"version": "2"})
    digest = repository.push(old, "old")
    for part in (new.layer, new.config):
        assert repository.request("HEAD", f"blobs/{digest_of(part)}").status_code == 200
    repository.request("DELETE", f"manifests/{digest}")
    assert repository.put_manifest(new.manifest, "new").status_code == 201
    assert repository.request("GET", f"blobs/{digest_of(new.layer)}").content == new.layer


def test_a_deleted_blob_is_gone_unless_an_image_needs_it(repository: Repository) -> None:
    """DELETE of a blob removes it from the repository; a layer of an image stays."""
    image = sample_image()
    repository.push(image, "v1")
    digest = repository.upload(DATA)
    assert repository.request("DELETE", f"blobs/{digest}").status_code == 202
    assert error_of(repository.request("GET", f"blobs/{digest}"))[:2] == (404, "BLOB_UNKNOWN")
    assert repository.request("DELETE", f"blobs/{digest_of(image.layer)}").status_code == 202
    assert repository.request("GET", f"blobs/{digest_of(image.layer)}").status_code == 200


def test_referrers_are_listed_and_filtered(repository: Repository) -> None:
    """An artifact with a subject is answered with OCI-Subject, and listed by its type."""
    subject = repository.push(sample_image(), "v1")
    wanted = {"subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}, "annotations": {"who": "me"}}
    for kind in ("application/x.sbom", "application/x.signature"):
        artifact = sample_image(artifactType=kind, **wanted)
        answer = repository.put_manifest(artifact.manifest)
        assert answer.headers["OCI-Subject"] == subject
    everything = repository.request("GET", f"referrers/{subject}")
    assert everything.headers["Content-Type"] == OCI_INDEX
    assert len(everything.json()["manifests"]) == 2
    some = repository.request("GET", f"referrers/{subject}?artifactType=application/x.sbom")
    assert some.headers["OCI-Filters-Applied"] == "artifactType"
    [found] = some.json()["manifests"]
    assert (found["artifactType"], found["annotations"]) == ("application/x.sbom", {"who": "me"})
    assert repository.request("GET", f"referrers/{digest_of(b'nobody')}").json()["manifests"] == []


def test_an_index_needs_its_images_and_keeps_them(repository: Repository) -> None:
    """An index of unknown images is refused; an image that an index names cannot be deleted before the index."""
    image = sample_image()
    entry = {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    assert error_of(repository.put_manifest(index, "multi", OCI_INDEX))[:2] == (400, "MANIFEST_BLOB_UNKNOWN")
    repository.push(image)
    assert repository.put_manifest(index, "multi", OCI_INDEX).status_code == 201
    assert error_of(repository.request("DELETE", f"manifests/{image.digest}"))[:2] == (400, "DENIED")
    assert repository.request("DELETE", f"manifests/{digest_of(index)}").status_code == 202
    assert repository.request("DELETE", f"manifests/{image.digest}").status_code == 202


def test_many_clients_push_the_same_layers_at_once(server: Server, repository: Repository) -> None:
    """Eight pushes at the same time, of the same layer under different tags, all succeed and leave each blob once."""
    images = [sample_image("shared", annotations={"number": str(number)}) for number in range(8)]
    failures: list[BaseException] = []

    def push(number: int) -> None:
        try:
            repository.push(images[number], f"v{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=push, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(repository.request("GET", "tags/list").json()["tags"]) == 8
    assert len(files_of(server)) == 8 + 2


def test_a_second_writer_of_an_upload_is_refused(server: Server, repository: Repository) -> None:
    """Two bodies at once into one upload would mix; the second gets 409 and the first is not harmed."""
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    connection = http.client.HTTPConnection(server.address)
    connection.putrequest("PATCH", upload)
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders()
    waiting = threading.Event()
    while not any(upload.writing.locked() for upload in list(server.ecr.uploads._uploads.values())):
        waiting.wait(0.01)
    assert repository.request("PATCH", upload, data=b"mine").status_code == 409
    connection.send(DATA)
    assert connection.getresponse().status == 202
    connection.close()
    assert repository.request("PUT", f"{upload}?digest={digest_of(DATA)}").status_code == 201


def test_an_upload_into_a_repository_that_is_deleted_meanwhile_is_refused(
    server: Server, repository: Repository
) -> None:
    """The rest of the body gets BLOB_UPLOAD_UNKNOWN, and nothing of it stays."""
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    connection = http.client.HTTPConnection(server.address)
    connection.putrequest("PATCH", upload)
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders()
    connection.send(DATA[:1000])
    server.aws().delete_repository(repositoryName="app", force=True)
    connection.send(DATA[1000:])
    assert connection.getresponse().status == 404
    connection.close()
    assert files_of(server) == []


def test_a_body_without_a_length_is_streamed(repository: Repository) -> None:
    """docker sends layers in one PATCH with chunked transfer encoding, and finishes with an empty PUT."""
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    pieces = (DATA[start : start + 5000] for start in range(0, len(DATA), 5000))
    assert repository.request("PATCH", upload, data=pieces).status_code == 202
    done = repository.request("PUT", f"{upload}?digest={digest_of(DATA)}")
    assert repository.request("GET", done.headers["Location"]).content == DATA
