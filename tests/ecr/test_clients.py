"""Real clients push to ECR and pull from it, as they stand: python-dxf, oras, skopeo."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from emulation.errors import ImageNotFound

from .conftest import ACCOUNT, REGION, Repository, SampleImage, Server, digest_of, sample_image

skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="the program skopeo is not installed")


def oci_layout(folder: Path, image: SampleImage) -> Path:
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for part in (image.layer, image.config, image.manifest):
        (blobs / digest_of(part).removeprefix("sha256:")).write_bytes(part)
    entry = {"mediaType": json.loads(image.manifest)["mediaType"], "digest": image.digest, "size": len(image.manifest)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def password_of(server: Server) -> str:
    [data] = server.aws().get_authorization_token()["authorizationData"]
    return base64.b64decode(data["authorizationToken"]).decode().removeprefix("AWS:")


def come_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients count as being on another machine, which must log in."""
    monkeypatch.setattr("emulation.ecr.registry._is_loopback", lambda address: False)


@skopeo
@pytest.mark.parametrize("credentials", [True, False])
def test_skopeo_copies_an_image_in_and_out(
    server: Server, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: bool
) -> None:
    """The same digest arrives, and comes back; from this machine without a login, from elsewhere with one."""
    image = sample_image()
    source, target = oci_layout(tmp_path / "in", image), tmp_path / "out"
    login = [f"AWS:{password_of(server)}"] if credentials else []
    if credentials:
        come_from_elsewhere(monkeypatch)
    to = ["--dest-tls-verify=false", *(f"--dest-creds={entry}" for entry in login)]
    run("skopeo", "copy", *to, f"oci:{source}:latest", f"docker://{repository.uri}:v1")
    [detail] = server.aws().describe_images(repositoryName="app")["imageDetails"]
    assert (detail["imageDigest"], detail["imageTags"], detail["imageSizeInBytes"]) == (
        image.digest,
        ["v1"],
        image.size,
    )
    back = ["--src-tls-verify=false", *(f"--src-creds={entry}" for entry in login)]
    run("skopeo", "copy", *back, f"docker://{repository.uri}:v1", f"oci:{target}:latest")
    assert (target / "blobs" / "sha256" / image.digest.removeprefix("sha256:")).read_bytes() == image.manifest
    plain = ["--tls-verify=false", *(f"--creds={entry}" for entry in login)]
    assert json.loads(run("skopeo", "list-tags", *plain, f"docker://{repository.uri}"))["Tags"] == ["v1"]
    run("skopeo", "delete", *plain, f"docker://{repository.uri}:v1")
    assert server.aws().describe_images(repositoryName="app")["imageDetails"] == []


@skopeo
def test_skopeo_is_told_that_a_repository_does_not_exist(server: Server, tmp_path: Path) -> None:
    """ECR's words reach the terminal."""
    source = oci_layout(tmp_path / "in", sample_image())
    target = f"docker://{server.address}/{ACCOUNT}/{REGION}/none:v1"
    done = subprocess.run(
        ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{source}:latest", target],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "The repository with name 'none' does not exist" in done.stderr


def test_python_dxf_pushes_mounts_pulls_and_deletes(server: Server, repository: Repository, tmp_path: Path) -> None:
    """A whole round with a registry client that nobody here wrote; it logs in over HTTPS only, so not at all."""
    dxf = pytest.importorskip("dxf", reason="python-dxf is not installed")

    def open_repository(name: str) -> Any:
        return dxf.DXF(server.address, f"{ACCOUNT}/{REGION}/{name}", insecure=True)

    client = open_repository("app")
    layer = tmp_path / "layer"
    layer.write_bytes(b"0123456789" * 300_000)
    digest = client.push_blob(str(layer))
    client.set_alias("v1", digest)
    assert client.list_aliases() == ["v1"]
    assert client.get_alias("v1") == [digest]
    content, size = client.pull_blob(digest, size=True)
    assert (b"".join(content), size) == (layer.read_bytes(), 3_000_000)
    assert client.blob_size(digest) == 3_000_000
    server.aws().create_repository(repositoryName="other")
    other = open_repository("other")
    other.mount_blob(f"{ACCOUNT}/{REGION}/app", digest)
    assert other.blob_size(digest) == 3_000_000
    client.del_alias("v1")
    assert client.list_aliases() == []


def test_who_comes_from_elsewhere_must_log_in(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token a client of another machine gets 401 and a Basic challenge, for the ping too."""
    come_from_elsewhere(monkeypatch)
    for url in (f"http://{server.address}/v2/", f"{repository.base}/tags/list"):
        answer = requests.get(url, timeout=10)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_oras_pushes_an_artifact_and_pulls_it(server: Server, repository: Repository, tmp_path: Path) -> None:
    """An artifact of any type, with annotations, goes in and comes out."""
    client_module = pytest.importorskip("oras.client", reason="oras is not installed")
    artifact = tmp_path / "model.bin"
    artifact.write_bytes(b"weights" * 1000)
    client = client_module.OrasClient(insecure=True)
    target = f"{repository.uri}:model"
    client.push(target=target, files=[str(artifact)], disable_path_validation=True)
    [detail] = server.aws().describe_images(repositoryName="app")["imageDetails"]
    assert detail["imageTags"] == ["model"]
    [pulled] = client.pull(target=target, outdir=str(tmp_path / "out"))
    assert Path(pulled).read_bytes() == artifact.read_bytes()


@pytest.mark.parametrize("form", ["uri", "aws", "digest"])
def test_a_runtime_finds_the_image_by_each_of_its_names(server: Server, repository: Repository, form: str) -> None:
    """repositoryUri, AWS's host name and a digest mean the same image; resolving counts as a pull."""
    image = sample_image()
    repository.push(image, "v1")
    host = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/app"
    names = {"uri": f"{repository.uri}:v1", "aws": f"{host}:v1", "digest": f"{host}:gone@{image.digest}"}
    resolved = server.run(server.images.resolve(names[form], ACCOUNT))
    assert (resolved.digest, resolved.manifest, resolved.config) == (image.digest, image.manifest, image.config)
    assert [layer.path.read_bytes() for layer in resolved.layers] == [image.layer]
    [detail] = server.aws().describe_images(repositoryName="app")["imageDetails"]
    assert detail["lastRecordedPullTime"] == server.clock.now()


@pytest.mark.parametrize("name", ["app:v2", "none:v1"])
def test_an_image_that_is_not_there_is_not_found(server: Server, repository: Repository, name: str) -> None:
    """The message ends as ECS shows it."""
    reference = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}"
    with pytest.raises(ImageNotFound) as caught:
        server.run(server.images.resolve(reference, ACCOUNT))
    assert str(caught.value) == f"{reference}: not found"
