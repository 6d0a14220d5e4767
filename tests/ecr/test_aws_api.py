"""The AWS API over what the registry holds, and the other way round."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from emulation.ecr.layers_api import SMALLEST_PART
from emulation.images.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

from .conftest import ACCOUNT, REGION, Repository, Server, digest_of, files_of, sample_image


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def upload_layer(ecr: Any, data: bytes) -> str:
    upload = ecr.initiate_layer_upload(repositoryName="app")["uploadId"]
    part = {"partFirstByte": 0, "partLastByte": len(data) - 1, "layerPartBlob": data}
    ecr.upload_layer_part(repositoryName="app", uploadId=upload, **part)
    digest: str = ecr.complete_layer_upload(repositoryName="app", uploadId=upload, layerDigests=[digest_of(data)])[
        "layerDigest"
    ]
    return digest


def test_a_pushed_image_is_described(server: Server, repository: Repository) -> None:
    """DescribeImages, ListImages and BatchGetImage show what came in by the registry."""
    image = sample_image()
    repository.push(image, "v1")
    repository.push(image, "latest")
    pushed_at = server.clock.now()
    server.advance(timedelta(hours=1))
    ecr = server.aws()
    [detail] = ecr.describe_images(repositoryName="app")["imageDetails"]
    assert detail == {
        "registryId": ACCOUNT,
        "repositoryName": "app",
        "imageDigest": image.digest,
        "imageTags": ["v1", "latest"],
        "imageSizeInBytes": image.size,
        "imagePushedAt": pushed_at,
        "imageManifestMediaType": OCI_MANIFEST,
        "artifactMediaType": OCI_CONFIG,
        "imageStatus": "ACTIVE",
    }
    assert ecr.list_images(repositoryName="app")["imageIds"] == [
        {"imageDigest": image.digest, "imageTag": tag} for tag in ("v1", "latest")
    ]
    [found] = ecr.batch_get_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])["images"]
    assert found["imageManifest"].encode() == image.manifest
    assert found["imageId"] == {"imageDigest": image.digest, "imageTag": "v1"}


def test_a_pull_is_recorded(server: Server, repository: Repository) -> None:
    """lastRecordedPullTime is that of the last GET of the manifest; HEAD is no pull."""
    repository.push(sample_image(), "v1")
    ecr = server.aws()
    repository.request("HEAD", "manifests/v1")
    assert "lastRecordedPullTime" not in ecr.describe_images(repositoryName="app")["imageDetails"][0]
    server.advance(timedelta(minutes=5))
    repository.request("GET", "manifests/v1")
    assert ecr.describe_images(repositoryName="app")["imageDetails"][0]["lastRecordedPullTime"] == server.clock.now()


def test_an_image_put_by_the_api_can_be_pulled(server: Server, repository: Repository) -> None:
    """Layers uploaded in parts and a manifest put by PutImage are an image of the registry."""
    ecr = server.aws()
    image = sample_image()
    upload_layer(ecr, image.layer)
    upload_layer(ecr, image.config)
    put = ecr.put_image(repositoryName="app", imageManifest=image.manifest.decode(), imageTag="v1")["image"]
    assert put["imageId"] == {"imageDigest": image.digest, "imageTag": "v1"}
    assert repository.request("GET", "manifests/v1").content == image.manifest
    assert repository.request("GET", f"blobs/{digest_of(image.layer)}").content == image.layer


def test_a_download_url_serves_the_layer(server: Server, repository: Repository) -> None:
    """GetDownloadUrlForLayer gives a URL that works without further ado, for an hour."""
    image = sample_image()
    repository.push(image, "v1")
    ecr = server.aws()
    answer = ecr.get_download_url_for_layer(repositoryName="app", layerDigest=digest_of(image.layer))
    assert requests.get(answer["downloadUrl"], timeout=10).content == image.layer
    server.advance(timedelta(minutes=61))
    assert requests.get(answer["downloadUrl"], timeout=10).status_code == 401
    missing = refused(ecr.get_download_url_for_layer, repositoryName="app", layerDigest=digest_of(b"no"))
    assert missing[0] == "LayersNotFoundException"


def test_layer_parts_must_follow_each_other_and_prove_right(server: Server, repository: Repository) -> None:
    """Each mistake of an upload in parts gets AWS's exception, and a lying digest leaves nothing behind."""
    ecr = server.aws()
    upload = {"repositoryName": "app", "uploadId": ecr.initiate_layer_upload(repositoryName="app")["uploadId"]}
    assert refused(ecr.complete_layer_upload, **upload, layerDigests=[digest_of(b"")])[0] == "EmptyUploadException"
    part = {"partFirstByte": 5, "partLastByte": 8, "layerPartBlob": b"1234"}
    assert refused(ecr.upload_layer_part, **upload, **part)[0] == "InvalidLayerPartException"
    assert ecr.upload_layer_part(**upload, **{**part, "partFirstByte": 0, "partLastByte": 3})["lastByteReceived"] == 3
    lie = [digest_of(b"a lie")]
    assert refused(ecr.complete_layer_upload, **upload, layerDigests=lie)[0] == "InvalidLayerException"
    assert refused(ecr.complete_layer_upload, **upload, layerDigests=lie)[0] == "UploadNotFoundException"
    assert files_of(server) == []
    digest = upload_layer(ecr, b"layer")
    again = ecr.initiate_layer_upload(repositoryName="app")["uploadId"]
    ecr.upload_layer_part(repositoryName="app", uploadId=again, partFirstByte=0, partLastByte=4, layerPartBlob=b"layer")
    arguments = {"repositoryName": "app", "uploadId": again, "layerDigests": [digest]}
    assert refused(ecr.complete_layer_upload, **arguments)[0] == "LayerAlreadyExistsException"


def test_only_the_last_layer_part_may_be_small(server: Server, repository: Repository) -> None:
    """Two parts make a layer; a part below 5 MiB that is not the last gets LayerPartTooSmallException."""
    ecr = server.aws()
    for size, wanted in ((SMALLEST_PART, ""), (10, "LayerPartTooSmallException")):
        upload = {"repositoryName": "app", "uploadId": ecr.initiate_layer_upload(repositoryName="app")["uploadId"]}
        first, last = b"x" * size, b"yz"
        ecr.upload_layer_part(**upload, partFirstByte=0, partLastByte=size - 1, layerPartBlob=first)
        ecr.upload_layer_part(**upload, partFirstByte=size, partLastByte=size + 1, layerPartBlob=last)
        digests = [digest_of(first + last)]
        if wanted:
            assert refused(ecr.complete_layer_upload, **upload, layerDigests=digests)[0] == wanted
        else:
            assert ecr.complete_layer_upload(**upload, layerDigests=digests)["layerDigest"] == digests[0]


def test_layer_availability_is_that_of_the_registry(server: Server, repository: Repository) -> None:
    """BatchCheckLayerAvailability finds what was pushed, with its size, and says what is missing or malformed."""
    image = sample_image()
    repository.push(image, "v1")
    digests = [digest_of(image.layer), digest_of(b"missing"), "sha256:bad"]
    answer = server.aws().batch_check_layer_availability(repositoryName="app", layerDigests=digests)
    [layer] = answer["layers"]
    assert (layer["layerAvailability"], layer["layerSize"]) == ("AVAILABLE", len(image.layer))
    assert [failure["failureCode"] for failure in answer["failures"]] == ["MissingLayerDigest", "InvalidLayerDigest"]


def test_put_image_refuses_as_aws_does(server: Server, repository: Repository) -> None:
    """Missing layers, a wrong digest, the same image again, an unknown repository: each its own exception."""
    ecr = server.aws()
    image = sample_image()
    put = {"repositoryName": "app", "imageManifest": image.manifest.decode(), "imageTag": "v1"}
    code, message = refused(ecr.put_image, **put)
    assert code == "LayersNotFoundException" and digest_of(image.layer) in message
    repository.push(image)
    assert refused(ecr.put_image, **put, imageDigest=digest_of(b"x"))[0] == "ImageDigestDoesNotMatchException"
    ecr.put_image(**put)
    code, message = refused(ecr.put_image, **put)
    assert code == "ImageAlreadyExistsException"
    assert message == (
        f"Image with digest '{image.digest}' and tag 'v1' already exists in the repository with name 'app' "
        f"in registry with id '{ACCOUNT}'"
    )
    assert refused(ecr.put_image, **{**put, "repositoryName": "none"}) == (
        "RepositoryNotFoundException",
        f"The repository with name 'none' does not exist in the registry with id '{ACCOUNT}'",
    )
    assert refused(ecr.put_image, **{**put, "imageManifest": "{"})[0] == "InvalidParameterException"
    assert refused(ecr.put_image, **{**put, "imageTag": "-no"})[0] == "InvalidParameterException"


def test_an_immutable_tag_cannot_move(server: Server) -> None:
    """By the registry 400 TAG_INVALID, by the API ImageTagAlreadyExistsException, in the same words."""
    ecr = server.aws()
    ecr.create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    repository = Repository(server, "fixed")
    first, second = sample_image("1"), sample_image("2")
    repository.push(first, "v1")
    repository.push(second)
    words = (
        "The image tag 'v1' already exists in the 'fixed' repository and cannot be overwritten "
        "because the repository is immutable."
    )
    answer = repository.put_manifest(second.manifest, "v1")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "TAG_INVALID")
    assert answer.json()["errors"][0]["message"] == words
    put = {"repositoryName": "fixed", "imageManifest": second.manifest.decode(), "imageTag": "v1"}
    assert refused(ecr.put_image, **put) == ("ImageTagAlreadyExistsException", words)
    assert repository.request("GET", "manifests/v1").content == first.manifest
    ecr.put_image_tag_mutability(repositoryName="fixed", imageTagMutability="MUTABLE")
    assert repository.put_manifest(second.manifest, "v1").status_code == 201


def test_excluded_tags_move_in_an_immutable_repository(server: Server) -> None:
    """IMMUTABLE_WITH_EXCLUSION lets the tags move that a filter names, and no others."""
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    server.aws().create_repository(
        repositoryName="mixed",
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=filters,
    )
    repository = Repository(server, "mixed")
    first, second = sample_image("1"), sample_image("2")
    for tag in ("dev-1", "v1"):
        repository.push(first, tag)
    repository.push(second, "dev-1")
    assert repository.put_manifest(second.manifest, "v1").status_code == 400


def test_a_tag_that_moves_leaves_the_old_image_untagged(server: Server, repository: Repository) -> None:
    """Pushing another image under a tag takes the tag away from the image before; the filters tell them apart."""
    first, second = sample_image("1"), sample_image("2")
    repository.push(first, "latest")
    repository.push(second, "latest")
    ecr = server.aws()
    untagged = ecr.describe_images(repositoryName="app", filter={"tagStatus": "UNTAGGED"})["imageDetails"]
    assert [(image["imageDigest"], image.get("imageTags")) for image in untagged] == [(first.digest, None)]
    listed = ecr.list_images(repositoryName="app", filter={"tagStatus": "TAGGED"})["imageIds"]
    assert listed == [{"imageDigest": second.digest, "imageTag": "latest"}]


def test_what_the_api_deletes_is_gone_from_the_registry(server: Server, repository: Repository) -> None:
    """BatchDeleteImage by tag takes a tag, and with the last one the image; by digest everything; blobs follow."""
    image = sample_image()
    repository.push(image, "v1")
    repository.push(image, "v2")
    ecr = server.aws()
    ids = [{"imageTag": "v1"}, {"imageTag": "nothing"}, {"imageDigest": "bad"}, {}]
    answer = ecr.batch_delete_image(repositoryName="app", imageIds=ids)
    assert answer["imageIds"] == [{"imageDigest": image.digest, "imageTag": "v1"}]
    codes = [failure["failureCode"] for failure in answer["failures"]]
    assert codes == ["ImageNotFound", "InvalidImageDigest", "MissingDigestAndTag"]
    assert repository.request("GET", "manifests/v2").status_code == 200
    ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "v2"}])
    assert repository.request("GET", f"manifests/{image.digest}").status_code == 404
    assert files_of(server) == []


def test_blobs_stay_as_long_as_another_repository_has_them(server: Server, repository: Repository) -> None:
    """Deleting an image in one account does not take the layers of the same image in another account."""
    image = sample_image()
    repository.push(image, "v1")
    server.aws("444455556666").create_repository(repositoryName="app")
    other = Repository(server, "app", account="444455556666")
    other.push(image, "v1")
    ids = [{"imageDigest": image.digest}]
    assert server.aws().batch_delete_image(repositoryName="app", imageIds=ids)["failures"] == []
    assert other.request("GET", f"blobs/{digest_of(image.layer)}").content == image.layer
    server.aws("444455556666").delete_repository(repositoryName="app", force=True)
    assert files_of(server) == []


def test_an_image_of_an_index_cannot_be_deleted_before_it(server: Server, repository: Repository) -> None:
    """BatchDeleteImage says ImageReferencedByManifestList; the index's size is that of its largest image."""
    image = sample_image()
    repository.push(image)
    entry = {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    repository.put_manifest(index, "multi", OCI_INDEX)
    ecr = server.aws()
    answer = ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageDigest": image.digest}])
    assert [failure["failureCode"] for failure in answer["failures"]] == ["ImageReferencedByManifestList"]
    [detail] = ecr.describe_images(repositoryName="app", imageIds=[{"imageTag": "multi"}])["imageDetails"]
    assert detail["imageSizeInBytes"] == image.size


def test_a_repository_with_images_is_deleted_by_force_only(server: Server, repository: Repository) -> None:
    """RepositoryNotEmptyException without force; with force the registry knows the repository no more."""
    repository.push(sample_image(), "v1")
    upload = repository.request("POST", "blobs/uploads/").headers["Location"]
    repository.request("PATCH", upload, data=b"unfinished")
    ecr = server.aws()
    assert refused(ecr.delete_repository, repositoryName="app") == (
        "RepositoryNotEmptyException",
        f"The repository with name 'app' in registry with id '{ACCOUNT}' cannot be deleted "
        "because it still contains images",
    )
    ecr.delete_repository(repositoryName="app", force=True)
    answer = repository.request("GET", "tags/list")
    assert answer.json()["errors"][0] == {
        "code": "NAME_UNKNOWN",
        "message": f"The repository with name 'app' does not exist in the registry with id '{ACCOUNT}'",
        "detail": None,
    }
    assert answer.status_code == 404
    assert files_of(server) == []


def test_pushing_to_a_repository_that_does_not_exist_is_refused(server: Server) -> None:
    """404 NAME_UNKNOWN at the first request of a push; repositories are not made by pushing."""
    answer = Repository(server, "team/none").request("POST", "blobs/uploads/")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_the_repository_uri_is_where_the_registry_is(server: Server) -> None:
    """repositoryUri and proxyEndpoint are this gateway, so that they can be pushed to as they stand."""
    created = server.aws().create_repository(repositoryName="team/app")["repository"]
    assert created["repositoryUri"] == f"{server.address}/{ACCOUNT}/{REGION}/team/app"
    [described] = server.aws().describe_repositories()["repositories"]
    assert described["repositoryUri"] == created["repositoryUri"]
    [data] = server.aws().get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"] == f"http://{server.address}"
    assert data["expiresAt"] == server.clock.now().replace(microsecond=0) + timedelta(hours=12)


def test_a_token_says_whose_registry_a_plain_name_means(server: Server, repository: Repository) -> None:
    """With a token, or with AWS's host name, /v2/app is the repository of that account and region."""
    digest = repository.push(sample_image(), "v1")
    [data] = server.aws().get_authorization_token()["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    url = f"http://{server.address}/v2/app/manifests/v1"
    by_token = requests.get(url, headers={"Authorization": f"Basic {data['authorizationToken']}"}, timeout=10)
    host = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    by_host = requests.get(url, headers={"Host": host}, timeout=10)
    for answer in (by_token, by_host):
        assert answer.headers["Docker-Content-Digest"] == digest
    assert requests.get(url, timeout=10).json()["errors"][0]["message"] == (
        "The repository with name 'app' does not exist in the registry with id '000000000000'"
    )


@pytest.mark.parametrize("user", ["AWS:wrong", "root:x", "AWS:e30=.00"])
def test_a_token_that_was_not_given_is_refused(server: Server, repository: Repository, user: str) -> None:
    """Credentials that are presented must be right, also from this machine; the challenge is Basic."""
    header = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
    for path in ("/v2/", f"/v2/{ACCOUNT}/{REGION}/app/tags/list"):
        answer = requests.get(f"http://{server.address}{path}", headers=header, timeout=10)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_token_expires_after_twelve_hours(server: Server, repository: Repository) -> None:
    """Then it is refused, and says so."""
    [data] = server.aws().get_authorization_token()["authorizationData"]
    header = {"Authorization": f"Basic {data['authorizationToken']}"}
    assert requests.get(f"http://{server.address}/v2/", headers=header, timeout=10).status_code == 200
    server.advance(timedelta(hours=12))
    answer = requests.get(f"http://{server.address}/v2/", headers=header, timeout=10)
    assert answer.status_code == 401
    assert "Your authorization token has expired" in answer.text


def test_lists_come_in_pages(server: Server, repository: Repository) -> None:
    """maxResults and nextToken work for the paginators of boto3."""
    digests = [repository.push(sample_image(str(number)), f"v{number}") for number in range(5)]
    ecr = server.aws()
    for name in ("one", "two"):
        ecr.create_repository(repositoryName=name)
    pages = ecr.get_paginator("describe_images").paginate(repositoryName="app", PaginationConfig={"PageSize": 2})
    found = [[image["imageDigest"] for image in page["imageDetails"]] for page in pages]
    assert found == [digests[:2], digests[2:4], digests[4:]]
    repositories = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["repositories"]) for page in repositories] == [2, 1]


def test_referrers_are_listed_by_the_api(server: Server, repository: Repository) -> None:
    """ListImageReferrers shows what was pushed with a subject."""
    subject = repository.push(sample_image(), "v1")
    reference = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}
    repository.put_manifest(sample_image(artifactType="application/x.sbom", subject=reference).manifest)
    answer = server.aws().list_image_referrers(repositoryName="app", subjectId={"imageDigest": subject})
    assert [referrer["artifactType"] for referrer in answer["referrers"]] == ["application/x.sbom"]


def test_everything_is_there_after_a_restart(serve: Callable[[], Server]) -> None:
    """On the same folder repositories, settings, tags, images and `docker login` outlive the process."""
    before = serve()
    ecr = before.aws()
    tags = [{"Key": "team", "Value": "blue"}]
    ecr.create_repository(repositoryName="team/app", imageTagMutability="IMMUTABLE", tags=tags)
    image = sample_image()
    Repository(before, "team/app").push(image, "v1")
    [detail] = ecr.describe_images(repositoryName="team/app")["imageDetails"]
    [data] = ecr.get_authorization_token()["authorizationData"]
    before.close()
    after = serve()
    ecr = after.aws()
    assert ecr.describe_images(repositoryName="team/app")["imageDetails"] == [detail]
    [repository] = ecr.describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["repositoryUri"].startswith(after.address)
    assert ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"] == tags
    header = {"Authorization": f"Basic {data['authorizationToken']}"}
    url = f"http://{after.address}/v2/team/app/manifests/v1"
    assert requests.get(url, headers=header, timeout=10).content == image.manifest


def test_what_a_killed_emulator_was_writing_is_gone_at_the_next_start(serve: Callable[[], Server]) -> None:
    """A blob that no repository knows does not stay; images do."""
    before = serve()
    before.aws().create_repository(repositoryName="app")
    image = sample_image()
    repository = Repository(before, "app")
    repository.push(image, "v1")
    before.close()
    store = before.ecr.store.blobs
    store.put(b"written, but not yet known to a repository")
    after = serve()
    assert files_of(after) == sorted(digest_of(part) for part in (image.layer, image.config, image.manifest))


def test_a_reset_of_moto_removes_everything(server: Server, repository: Repository) -> None:
    """After moto's reset the registry has no repository and no blob."""
    from moto.core.base_backend import BackendDict

    repository.push(sample_image(), "v1")
    server.on_api_thread(BackendDict.reset)
    assert server.aws().describe_repositories()["repositories"] == []
    assert repository.request("GET", "tags/list").status_code == 404
    assert files_of(server) == []


def test_images_are_not_scanned(server: Server, repository: Repository) -> None:
    """No finding is invented: there is no scan to describe."""
    repository.push(sample_image(), "v1")
    image = {"repositoryName": "app", "imageId": {"imageTag": "v1"}}
    assert refused(server.aws().describe_image_scan_findings, **image)[0] == "ScanNotFoundException"
